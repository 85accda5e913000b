"""Pagination for tables that are too large for a full COUNT per page."""

import json
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
    """Count at most LARGE rows, and estimate the size of a larger list.

    | list | size |
    | --- | --- |
    | not filtered, large | rows of the table as of the last VACUUM or ANALYZE |
    | filtered, large | the estimate of PostgreSQL's planner |
    | anything else | exact |

    The last pages of an estimated list may be empty or missing.
    """

    @cached_property
    def count(self) -> int:
        """Return the number of rows, exact or estimated."""
        queryset: Any = self.object_list
        if getattr(queryset, "query", None) is None:
            return int(super().count)
        if not queryset.query.where:
            estimate = _rows_of_table(queryset.model._meta.db_table)
            if estimate >= LARGE:
                return estimate
        # In the order of the primary key, so that PostgreSQL stops after LARGE rows of an index.
        counted = int(queryset.order_by("pk").values("pk")[: LARGE + 1].count())
        return counted if counted <= LARGE else max(counted, _rows_of_plan(queryset))


def _rows_of_table(table: str) -> int:
    """Return the table's number of rows as of the last VACUUM or ANALYZE; -1 if neither has run yet."""
    with connection.cursor() as cursor:
        cursor.execute(_ESTIMATE, [connection.ops.quote_name(table)])
        return int(cursor.fetchone()[0])


def _rows_of_plan(queryset: Any) -> int:
    """Return the number of rows that the planner expects."""
    [plan] = json.loads(queryset.order_by().values("pk").explain(format="json"))
    return int(plan["Plan"]["Plan Rows"])
