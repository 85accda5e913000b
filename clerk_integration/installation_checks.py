"""System checks of the project that the apps are installed into."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.migrations.recorder import MigrationRecorder

LABELS = ("clerk_integration", "tenants")
PROCRASTINATE = "procrastinate.contrib.django"
TENANT_MIDDLEWARE = "tenants.scoping.middleware.TenantMiddleware"
USER_MIDDLEWARE = "django.contrib.auth.middleware.AuthenticationMiddleware"
OWN_ENGINES = "config."
"""Prefix of this repository's own database engines, which are PostgreSQL or report that none is set."""


@register
def check_installation(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database other than PostgreSQL, missing apps, and middleware in the wrong order."""
    messages: list[CheckMessage] = []
    engine = settings.DATABASES[DEFAULT_DB_ALIAS].get("ENGINE", "")
    if not engine.startswith(OWN_ENGINES) and not _is_postgresql():
        messages.append(
            Error(
                f"The database 'default' has the engine {engine}, and clerk-tenants needs PostgreSQL.",
                hint="Use PostgreSQL 14 or newer: 'ENGINE': 'django.db.backends.postgresql'",
                id="clerk.E030",
            )
        )
    if not apps.is_installed(PROCRASTINATE):
        messages.append(
            Error(
                f"{PROCRASTINATE} is not in INSTALLED_APPS, and webhooks are processed by its workers.",
                hint=f"Add {PROCRASTINATE} after clerk_integration and tenants, which extend its command.",
                id="clerk.E031",
            )
        )
    middleware = list(settings.MIDDLEWARE)
    if {TENANT_MIDDLEWARE, USER_MIDDLEWARE} <= {*middleware} and (
        middleware.index(TENANT_MIDDLEWARE) < middleware.index(USER_MIDDLEWARE)
    ):
        messages.append(
            Error(
                "TenantMiddleware comes before AuthenticationMiddleware, so request.user is no Clerk user.",
                hint=f"Move {TENANT_MIDDLEWARE} in MIDDLEWARE below {USER_MIDDLEWARE}.",
                id="clerk.E033",
            )
        )
    return messages


@register(Tags.database)
def check_tables(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report tables that have a name of ours and are not ours: no migration of their app is applied.

    `migrate` runs this check before it changes anything, and so does `check --database default`.
    """
    if DEFAULT_DB_ALIAS not in (databases or ()) or not _is_postgresql():
        return []
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        applied = {label for label, _ in MigrationRecorder(connection).applied_migrations()}
        existing = set(connection.introspection.table_names())
    except OperationalError:
        return []  # The command that runs the checks reports it.
    return [
        Error(
            f"The table `{table}` exists already and is not the one of {label}. Nothing was migrated.",
            hint="Rename the table that is in use (db_table), or install the apps in another database.",
            id="clerk.E032",
        )
        for label in LABELS
        if label not in applied and apps.is_installed(label)
        for table in sorted(existing & _tables_of(label))
    ]


def _is_postgresql() -> bool:
    try:
        return connections[DEFAULT_DB_ALIAS].vendor == "postgresql"
    except ImproperlyConfigured:  # The engine's driver is not installed.
        return False


def _tables_of(label: str) -> set[str]:
    models = apps.get_app_config(label).get_models(include_auto_created=True)
    return {model._meta.db_table for model in models}
