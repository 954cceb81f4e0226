"""Faults on purpose, for whoever develops a function app (docs/fault-injection.md); none unless they are asked for."""
