"""The databases inside the embedded server, and queries as its superuser."""

import os
import re

import psycopg
from psycopg import sql

from config.embedded_postgres.location import Location


def answers(location: Location) -> bool:
    """Say whether a server that answers on our socket serves our data directory."""
    try:
        with _connect(location) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and row[0] == str(location.data)


def create_missing_database(location: Location) -> None:
    """Create the project's database if it is not there."""
    with _connect(location) as connection:
        if location.database not in _names(connection):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(location.database)))


def drop_orphaned_databases(location: Location) -> None:
    """Drop the databases of test runs that were killed; for a server that nobody uses yet.

    One that runs already may be used from another container, where the process ids mean others.
    """
    with _connect(location) as connection:
        for name in _names(connection):
            if _is_orphan(name, location):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _names(connection: psycopg.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


def _connect(location: Location) -> psycopg.Connection:
    return psycopg.connect(
        host=str(location.socket_dir),
        port=location.port,
        user=location.user,
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
    )


def _is_orphan(name: str, location: Location) -> bool:
    """Say whether `name` is the database of a test run (see Location.test_database) that is no more."""
    match = re.match(rf"test_{re.escape(location.database)}_(\d+)(_|$)", name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
