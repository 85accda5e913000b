"""A stateful local Clerk over HTTP on 127.0.0.1, for development and tests.

Only the command `clerk_sandbox` imports this package. The package imports neither Django nor the rest of
the project. `coverage.py` lists the emulated endpoints, and `errors.py` the error codes.
"""
