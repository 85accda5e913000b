"""The base classes of commands: a summary even after a failure or a signal, database errors in one line."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from procrastinate.exceptions import ConnectorException

from clerk_integration.management.progress import INTERRUPTED, CommandProgress


class SummaryCommand(BaseCommand):
    """A command that ends with a summary; with `--json`, the last line of output is one JSON object.

    The object is printed after an exception or a signal, too. Ctrl-C and SIGTERM raise CommandError with the
    exit code 130, unless the command itself handles them (`stop_on_signals`). A database error, or an output
    that is closed (`| head`), raises CommandError with one line; other exceptions keep their traceback.
    """

    _progress: CommandProgress | None = None

    def start_progress(self, options: Mapping[str, Any]) -> CommandProgress:
        """Return the progress of this command; its `finish` prints the summary."""
        self._progress = CommandProgress(self.stdout, as_json=options["json"])
        return self._progress

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; raise CommandError after a signal, or if the output is closed."""
        try:
            with _sigterm_as_ctrl_c():
                result = self._execute(*args, **options)
                self.stdout.flush()
                return result
        except KeyboardInterrupt as signalled:
            interrupted = CommandError(
                "Interrupted. What was committed before is kept. Run the same command again to resume.",
                returncode=INTERRUPTED,
            )
            self._print_failure(interrupted, options)
            raise interrupted from signalled
        except BrokenPipeError as error:
            self._discard_output()
            raise CommandError(
                "The reader of the output has ended, so this command stopped. What was committed before is"
                " kept."
            ) from error
        except Exception as error:
            self._print_failure(error, options)
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

    def _discard_output(self) -> None:
        """Discard the buffered output, because Python flushes it at its exit, which would fail again."""
        if self.stdout._out is sys.stdout:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stdout.fileno())
            os.close(null)

    def _print_failure(self, error: Exception, options: Mapping[str, Any]) -> None:
        if options.get("json") and not (self._progress and self._progress.is_finished):
            message = str(error) if isinstance(error, CommandError) else f"{type(error).__name__}: {error}"
            self.stdout.write(json.dumps({"error": message}))


class DatabaseCommand(SummaryCommand):
    """A command that needs a migrated database.

    Raises CommandError before `handle` if the database cannot be reached or a migration is not applied.
    """

    requires_migrations_checks = True

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


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt inside the block. Only the main thread may change a handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def sentence(message: object) -> str:
    """Return a message as one line that ends with a full stop, so that another sentence can follow."""
    line = " ".join(str(message).split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
