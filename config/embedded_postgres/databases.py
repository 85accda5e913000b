"""Queries to the embedded server as its superuser."""

import os
import re

import psycopg
from psycopg import sql

from config.embedded_postgres.location import Location


def is_answering(location: Location) -> bool:
    """Return True if a server answers on our socket and serves our data directory."""
    try:
        with _connect(location) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and row[0] == str(location.data)


def create_missing_database(location: Location) -> None:
    """Create the project's database if it does not exist."""
    with _connect(location) as connection:
        if location.database not in _names(connection):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(location.database)))


def drop_orphaned_databases(location: Location) -> None:
    """Drop the test databases of test runs that were killed.

    Call this only for a server that was just started. A running server may serve another container, and the
    process ids of another container cannot be checked here.
    """
    with _connect(location) as connection:
        for name in _names(connection):
            match = re.match(rf"test_{re.escape(location.database)}_(\d+)(_|$)", name)
            if match and not _is_process(int(match[1])):
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


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
