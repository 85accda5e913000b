"""Isolate the items of a batch: if one item raises an exception, only that item fails."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from clerk_integration.exceptions import InvalidClerkId
from tenants.exceptions import SyncError
from tenants.models import SyncRun
from tenants.reconcile.progress import Progress
from tenants.runs import leases, records
from tenants.runs.failures import FailedAlike, FailureStreak

logger = logging.getLogger(__name__)


class Isolation:
    """Counts the failed items of a run, and names each failed item in the log and in `progress`."""

    def __init__(self, run: SyncRun, progress: Progress) -> None:
        self._run = run
        self._progress = progress
        self._streak = FailureStreak()

    @contextmanager
    def item(self, name: str, *, count: int = 1) -> Iterator[None]:
        """Catch an exception of the `with` block, and add `count` to the failed records of the run.

        Raise the exception again if it is a SyncError, or if five items in a row failed alike.
        """
        leases.renew(self._run)
        try:
            yield
        except SyncError:
            raise
        except Exception as error:
            logger.warning("Full sync %s did not change %s: %s", self._run.pk, name, error)
            self._progress.note(f"{name}: not changed: {error}")
            # An invalid id is a problem of this item only.
            kind = "" if isinstance(error, InvalidClerkId) else type(error).__name__
            try:
                self._streak.add(name, kind=kind, message=str(error))
            except FailedAlike:
                raise error from None
            records.count(self._run, failed=count)
        else:
            self._streak.add(name, kind="", message="")
