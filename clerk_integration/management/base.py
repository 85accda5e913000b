"""The base class of commands that use the database."""

import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from procrastinate.exceptions import ConnectorException

from clerk_integration.management.progress import CommandProgress


class DatabaseCommand(BaseCommand):
    """A command that needs a migrated database and reports a database error in one line.

    Raises CommandError before `handle` if the database cannot be reached or a migration is not applied, and
    for a later database error. Other exceptions keep their traceback. With `--json`, the last line of output
    is one JSON object, even after an exception.
    """

    requires_migrations_checks = True
    _progress: CommandProgress | None = None

    def start_progress(self, options: Mapping[str, Any]) -> CommandProgress:
        """Return the progress of this command; its `finish` prints the summary."""
        self._progress = CommandProgress(self.stdout, as_json=options["json"])
        return self._progress

    def check_migrations(self) -> None:
        """Raise CommandError if a migration is not applied. Django's own check only prints a notice."""
        try:
            executor = MigrationExecutor(connection)
        except (Error, ImproperlyConfigured) as error:
            raise CommandError(
                f"The database cannot be reached: {sentence(error)} Nothing was changed."
            ) from error
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database is not migrated. Nothing was changed; run `manage.py migrate`.")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raise CommandError for a database error."""
        try:
            return self._execute(*args, **options)
        except Exception as error:
            if options.get("json") and not (self._progress and self._progress.is_finished):
                message = (
                    str(error) if isinstance(error, CommandError) else f"{type(error).__name__}: {error}"
                )
                self.stdout.write(json.dumps({"error": message}))
            raise

    def _execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except (OperationalError, InterfaceError, ConnectorException) as error:
            # Procrastinate wraps the database's error in an exception without a message.
            cause = error.__cause__ if isinstance(error, ConnectorException) else error
            if not isinstance(cause, OperationalError | InterfaceError):
                raise
            raise CommandError(
                f"The database failed: {sentence(cause)} What was committed before is kept."
            ) from error


def sentence(message: object) -> str:
    """Return a message as one line that ends with a full stop, so that another sentence can follow."""
    line = " ".join(str(message).split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
