"""The admin while the database is read-only or down."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client


@contextmanager
def read_only_database() -> Iterator[None]:
    """Refuse every write on the connection of the requests, as on a standby server."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            cursor.execute("RESET default_transaction_read_only")


@pytest.mark.django_db(transaction=True)
def test_admin_with_a_read_only_database_answers_503(client: Client) -> None:
    User.objects.create_superuser("staff", password="secret")
    client.raise_request_exception = False
    with read_only_database():
        response = client.post("/admin/login/", {"username": "staff", "password": "secret"})
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert "accepts no writes" in response.content.decode()


ASK = """
import json, sys
import django; django.setup()
from django.test import Client
client = Client(raise_request_exception=False)
client.cookies["sessionid"] = "x" * 32
response = client.get("/admin/")
print(json.dumps([response.status_code, response.get("Retry-After"), response.content.decode()]))
"""


def test_admin_without_a_database_answers_503_in_one_log_line() -> None:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": "postgres://nobody:secret@127.0.0.1:9/nothing",
        "LOG_FORMAT": "json",
    }
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [503, "5", "The database cannot be reached. Try again later.\n"]
    [line] = done.stderr.splitlines()
    assert json.loads(line)["event"].startswith("GET /admin/: 503 database_unavailable: connection failed")
    assert "secret" not in line
