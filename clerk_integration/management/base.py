"""What our commands that use the database have in common."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from procrastinate.exceptions import ConnectorException

from clerk_integration.management.wording import sentence


class DatabaseCommand(BaseCommand):
    """A command that works on a migrated database, and says in one line when there is none.

    Raises CommandError before anything is done when the database cannot be reached or lacks
    migrations, and when it fails later. Mistakes of ours keep their traceback.
    """

    requires_migrations_checks = True

    def check_migrations(self) -> None:
        """Raise CommandError unless every migration is applied; Django itself would only tell."""
        try:
            executor = MigrationExecutor(connection)
        except (Error, ImproperlyConfigured) as error:
            raise CommandError(
                f"The database cannot be reached: {sentence(error)} Nothing was changed."
            ) from error
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database is not migrated. Nothing was changed; run `manage.py migrate`.")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Do the command as Django does; see the class for what is translated."""
        try:
            return super().execute(*args, **options)
        except (OperationalError, InterfaceError, ConnectorException) as error:
            # The queue wraps what its database says in an exception without a message.
            cause = error.__cause__ if isinstance(error, ConnectorException) else error
            if not isinstance(cause, OperationalError | InterfaceError):
                raise
            raise CommandError(
                f"The database failed: {sentence(cause)} What was committed before is kept."
            ) from error
