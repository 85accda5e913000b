"""Pagination for tables that are too large for a full COUNT per page."""

import json
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator as DjangoPaginator
from django.db import connection
from django.db.models import Model
from django.utils.functional import cached_property

if TYPE_CHECKING:
    Paginator = DjangoPaginator[Any]
else:
    Paginator = DjangoPaginator

LARGE = 10_000
"""Rows above which the database's own estimate is used."""

# | estimate of the last VACUUM or ANALYZE   | size                                       |
# | ---------------------------------------- | ------------------------------------------ |
# | LARGE or more                            | the estimate                               |
# | less, or neither has run yet (-1)        | counted, at most LARGE + 1                 |
# In the order of the primary key, so that PostgreSQL counts the rows of an index.
_SIZE_OF_TABLE = """
SELECT CASE WHEN reltuples >= %(large)s THEN reltuples::bigint
       ELSE (SELECT count(*) FROM (SELECT FROM {table} ORDER BY {key} LIMIT %(large)s + 1) AS counted) END
FROM pg_class WHERE oid = %(table)s::regclass
"""


class EstimatingPaginator(Paginator):
    """Count at most LARGE rows, and estimate the size of a larger list.

    | list                | size                                                        | statements |
    | ------------------- | ----------------------------------------------------------- | ---------- |
    | not filtered, large | rows of the table as of the last VACUUM or ANALYZE          | 1          |
    | filtered, large     | the estimate of PostgreSQL's planner                        | 2          |
    | small               | exact                                                       | as above   |

    The last pages of an estimated list may be empty or missing.
    """

    @cached_property
    def count(self) -> int:
        """Return the number of rows, exact or estimated."""
        queryset: Any = self.object_list
        if getattr(queryset, "query", None) is None:
            return int(super().count)
        if queryset.query.is_empty():
            return 0
        if not queryset.query.where:
            return _rows_of_table(queryset.model)
        counted = int(queryset.order_by("pk").values("pk")[: LARGE + 1].count())
        # Also for a small list, so that the number of statements does not depend on the number of rows.
        estimate = _rows_of_plan(queryset)
        return counted if counted <= LARGE else max(counted, estimate)


def _rows_of_table(model: type[Model]) -> int:
    options, quote = model._meta, connection.ops.quote_name
    table, key = quote(options.db_table), quote(str(options.pk.column))
    with connection.cursor() as cursor:
        cursor.execute(_SIZE_OF_TABLE.format(table=table, key=key), {"large": LARGE, "table": table})
        return int(cursor.fetchone()[0])


def _rows_of_plan(queryset: Any) -> int:
    """Return the number of rows that the planner expects; 0 if Django knows that there are none."""
    plans = queryset.order_by().values("pk").explain(format="json")
    return int(json.loads(plans)[0]["Plan"]["Plan Rows"]) if plans else 0
