"""A process that uses the embedded PostgreSQL of a project.

`python -m tests.config.database_user BASE_DIR` connects, prints the process id of the server, and then
answers each SQL statement on its standard input with one line of JSON: the first column, or the error.
A line `fork` makes a forked child use the database and exit. A line `orphan` makes a forked child use the
database until this process has ended and one more second has passed. The process exits at the end of its
input.
"""

import json
import os
import sys
import time
from pathlib import Path

import django
import environ
from django.conf import settings
from django.db import connection

from config.database import database_settings


def answer(statement: str) -> object:
    """Execute `statement` on a new connection."""
    connection.close()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return [row[0] for row in cursor.fetchall()] if cursor.description else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def use_in_fork() -> int:
    """Use the database in a forked child, and return the child's exit status."""
    connection.close()
    child = os.fork()
    if not child:
        answer("SELECT 1")
        sys.exit(0)
    return os.waitpid(child, 0)[1]


def leave_orphan() -> int:
    """Fork a child that uses the database for longer than this process lives, and return its id."""
    connection.close()
    parent = os.getpid()
    child = os.fork()
    if not child:
        while os.getppid() == parent:
            time.sleep(0.02)
        time.sleep(1)
        os._exit(0 if answer("SELECT 1") == [1] else 1)
    return child


def postmaster() -> object:
    """Return the process id of the server, as the server itself reports it."""
    found = answer("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int")
    return found[0] if isinstance(found, list) else found


def main() -> None:
    """Answer the lines of standard input."""
    base_dir = Path(sys.argv[1])
    database = database_settings(environ.Env(), debug=True, base_dir=base_dir)
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()
    print(json.dumps(postmaster()), flush=True)
    commands = {"fork\n": use_in_fork, "orphan\n": leave_orphan}
    for line in sys.stdin:
        print(json.dumps(commands[line]() if line in commands else answer(line)), flush=True)
    connection.close()


if __name__ == "__main__":
    main()
