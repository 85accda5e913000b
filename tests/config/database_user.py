"""A process that uses the embedded PostgreSQL of a project, and nothing else of ours.

`python -m tests.config.database_user BASE_DIR` connects, prints the process id of the server, and
then answers each SQL statement on its standard input with one line of JSON: the first column, or
the error. A line `fork` lets a forked child use the database and exit. At the end of its input the
process exits as any program does.
"""

import json
import os
import sys
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
    """Use the database in a forked child that exits like a worker of gunicorn, and return its status."""
    connection.close()
    child = os.fork()
    if not child:
        answer("SELECT 1")
        sys.exit(0)
    return os.waitpid(child, 0)[1]


def postmaster() -> object:
    """Return the process id of the server, asked of itself."""
    found = answer("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int")
    return found[0] if isinstance(found, list) else found


def main() -> None:
    """Serve standard input."""
    base_dir = Path(sys.argv[1])
    database = database_settings(environ.Env(), debug=True, base_dir=base_dir)
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()
    print(json.dumps(postmaster()), flush=True)
    for line in sys.stdin:
        print(json.dumps(use_in_fork() if line == "fork\n" else answer(line)), flush=True)
    connection.close()


if __name__ == "__main__":
    main()
