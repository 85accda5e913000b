"""Handlers that a worker of the tests has, and no other."""
