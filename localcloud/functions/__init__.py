"""The Functions host: indexes a Python v2 function app and runs its triggers and bindings."""
