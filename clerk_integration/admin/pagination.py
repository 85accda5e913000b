"""Pagination for tables that are too large for a COUNT per page."""

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator as DjangoPaginator
from django.db import connection
from django.utils.functional import cached_property

if TYPE_CHECKING:
    Paginator = DjangoPaginator[Any]
else:
    Paginator = DjangoPaginator

LARGE = 10_000
"""Rows above which the database's own estimate is used."""

_ESTIMATE = "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass"


class EstimatingPaginator(Paginator):
    """Count filtered lists, and estimate the size of a large unfiltered list.

    The estimate is from the last VACUUM or ANALYZE, so the last pages may be empty or missing.
    """

    @cached_property
    def count(self) -> int:
        """Return the number of rows, exact or estimated."""
        query = getattr(self.object_list, "query", None)
        if query is not None and not query.where:
            estimate = _estimate(query.get_meta().db_table)
            if estimate >= LARGE:
                return estimate
        return int(super().count)


def _estimate(table: str) -> int:
    """Return the table's number of rows as of the last VACUUM or ANALYZE; -1 if neither has run yet."""
    with connection.cursor() as cursor:
        cursor.execute(_ESTIMATE, [connection.ops.quote_name(table)])
        return int(cursor.fetchone()[0])
