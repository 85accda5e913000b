"""A batch isolates its items: an exception of one item is the failure of that item."""

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
    """Counts the failures of items in a run, and names them in the log and to the operator."""

    def __init__(self, run: SyncRun, progress: Progress) -> None:
        self._run = run
        self._progress = progress
        self._streak = FailureStreak()

    @contextmanager
    def item(self, name: str, *, count: int = 1) -> Iterator[None]:
        """Record an exception of the block as the failure of the item, which counts `count`.

        Raise the exception if five items in a row failed alike, and raise SyncError always.
        """
        leases.renew(self._run)
        try:
            yield
        except SyncError:
            raise
        except Exception as error:
            logger.warning("Full sync %s left %s as it is: %s", self._run.pk, name, error)
            self._progress.note(f"{name}: left as it is: {error}")
            # An id that Clerk cannot have says nothing about the next item.
            kind = "" if isinstance(error, InvalidClerkId) else type(error).__name__
            try:
                self._streak.add(name, kind=kind, message=str(error))
            except FailedAlike:
                raise error from None
            records.count(self._run, failed=count)
        else:
            self._streak.add(name, kind="", message="")
