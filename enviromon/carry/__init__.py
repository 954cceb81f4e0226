"""Carrying data over: to another store, to another hub, from a deployment of the system this one grew from."""
