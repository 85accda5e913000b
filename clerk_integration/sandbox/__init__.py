"""A stateful local Clerk over HTTP on 127.0.0.1, for development and tests.

It is reached over HTTP only: nothing outside this package and its command imports it, and it
imports neither Django nor the rest of the project. What it can and cannot do stands as data in
`coverage.py` (endpoints) and `errors.py` (error codes).
"""
