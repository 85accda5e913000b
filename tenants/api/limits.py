"""How many requests a caller may send in a period: a count in PostgreSQL, shared by all processes."""

from django.db import Error as DatabaseError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from clerk_integration.conf import request_limit
from clerk_integration.lost_connections import repeat_if_lost
from tenants.sql import query

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

# stored period         | begins at   | count
# ----------------------+-------------+----------
# none                  | now         | 1
# has ended             | now         | 1
# has not ended         | is kept     | one more
#
# A period that begins later than now counts as current, because another statement may have begun later and
# been first. If it begins a whole period later, the clock was set back, and the period counts as ended.
_COUNT = """
INSERT INTO request_counts AS counted (key, began_at, count)
VALUES (%(key)s, statement_timestamp(), 1)
ON CONFLICT (key) DO UPDATE SET
    began_at = CASE
        WHEN abs(extract(epoch FROM statement_timestamp() - counted.began_at)) < %(seconds)s
        THEN counted.began_at ELSE statement_timestamp() END,
    count = CASE
        WHEN abs(extract(epoch FROM statement_timestamp() - counted.began_at)) < %(seconds)s
        THEN counted.count + 1 ELSE 1 END
RETURNING count, extract(epoch FROM began_at - statement_timestamp())::float8 + %(seconds)s
"""


def count_request(key: str, period: str) -> tuple[int, float]:
    """Count a request; return the count of the current period, and the seconds until the period ends."""
    [(count, wait)] = query(_COUNT, key=key, seconds=SECONDS[period])
    return count, wait


class CallerLimit(BaseThrottle):
    """The limit that a setting names, for each caller: a Clerk user, or a Django user."""

    def __init__(self, setting: str) -> None:
        self._setting = setting

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count the request, and return True; raise Throttled if the caller has sent too many. One statement.

        Allow every request while the database accepts no writes or a lock times out, so that reads continue.
        """
        limit = request_limit(self._setting)
        if limit is None:
            return True
        number, period = limit
        key = f"{self._setting}:{request.user.pk}"
        try:
            [(count, wait)] = repeat_if_lost(lambda: query(_COUNT, key=key, seconds=SECONDS[period]))
        except DatabaseError:
            return True
        if count > number:
            times = "1 request" if number == 1 else f"{number} requests"
            raise Throttled(wait, f"Only {times} of this kind may be sent in one {period}. Nothing was done.")
        return True
