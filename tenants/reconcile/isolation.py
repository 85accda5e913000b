"""A batch isolates its items: an exception of one item is the failure of that item."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tenants.exceptions import SyncError
from tenants.models import SyncRun
from tenants.reconcile.progress import Progress
from tenants.runs import records

logger = logging.getLogger(__name__)

MAX_ALIKE = 5
"""So many items in a row that failed alike stop the batch: the next one would fail as well."""


class Isolation:
    """Counts the failures of items in a run, and names them in the log and to the operator."""

    def __init__(self, run: SyncRun, progress: Progress) -> None:
        self._run = run
        self._progress = progress
        self._alike: list[type[Exception]] = []

    @contextmanager
    def item(self, name: str, *, count: int = 1) -> Iterator[None]:
        """Record an exception of the block as the failure of the item, which counts `count`.

        Raise it if the items before failed alike, MAX_ALIKE in a row, and raise SyncError always.
        """
        try:
            yield
        except SyncError:
            raise
        except Exception as error:
            self._alike = [kind for kind in self._alike if kind is type(error)] + [type(error)]
            logger.warning("Full sync %s left %s as it is: %s", self._run.pk, name, error)
            self._progress.note(f"{name}: left as it is: {error}")
            if len(self._alike) >= MAX_ALIKE:
                raise
            records.count(self._run, failed=count)
        else:
            self._alike.clear()
