"""One page of one of Clerk's lists."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from clerk_integration.entities import ClerkMembership, ClerkOrganization, UnreadableRecord, record_id
from clerk_integration.exceptions import ClerkProtocolError

logger = logging.getLogger(__name__)

Record = TypeVar("Record", bound=ClerkOrganization | ClerkMembership)


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """An unreadable record, and its id if it has one."""

    id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ClerkPage(Generic[Record]):
    """The readable records of a page in Clerk's order, and the skipped records."""

    records: list[Record]
    offset: int
    total: int
    """How many records the list had when Clerk sent the page."""
    skipped: list[SkippedRecord] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The offset after the last record of the page."""
        return self.offset + len(self.records) + len(self.skipped)

    @property
    def ids(self) -> list[str]:
        """The ids of all records, including skipped records that have an id."""
        return [record.id for record in self.records] + [one.id for one in self.skipped if one.id]

    @property
    def nameless(self) -> int:
        """The number of skipped records without an id."""
        return sum(one.id is None for one in self.skipped)


FetchPage = Callable[[int], ClerkPage[Record]]
"""Fetches the page at an offset from Clerk."""


def read_page(page: Any, read_record: Callable[[Any], Record], *, offset: int) -> ClerkPage[Record]:
    """Read a page of Clerk's JSON; log and skip unreadable records.

    Raises ClerkProtocolError if the reply is not a page.
    """
    items, total = _contents(page)
    records, skipped = [], []
    for index, item in enumerate(items, start=offset):
        try:
            records.append(read_record(item))
        except UnreadableRecord as exc:
            skipped.append(SkippedRecord(record_id(item), str(exc)))
            logger.warning("Record %d of Clerk's list (%s) was skipped: %s", index, skipped[-1].id, exc)
    return ClerkPage(records, offset=offset, total=total, skipped=skipped)


def _contents(page: Any) -> tuple[list[Any], int]:
    items = page.get("data") if isinstance(page, Mapping) else None
    total = page.get("total_count") if isinstance(page, Mapping) else None
    if not isinstance(items, list) or not isinstance(total, int) or isinstance(total, bool):
        raise ClerkProtocolError(
            "Clerk's page has no `data` or no `total_count`, so the list cannot be read completely. "
            "Nothing was changed. Check that CLERK_API_URL names Clerk's Backend API."
        )
    return items, total
