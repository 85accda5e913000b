"""The admin while the database is read-only."""

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
