"""Check whether Clerk answers, and store the result for the admin and for metrics.

The breakers know only what their own process has seen, and a page must not wait for Clerk. So a worker
checks Clerk every minute. Without a worker, the stored result becomes old; `checked_at` shows it.
"""

from django.db import connection

from clerk_integration.exceptions import ClerkError
from clerk_integration.wire.client import fetch_jwks

# stored error | error now | changed_at
# -------------+-----------+-----------
# no row       | any       | now
# empty        | empty     | is kept
# a reason     | a reason  | is kept
# empty        | a reason  | now
# a reason     | empty     | now
_STORE = """
INSERT INTO clerk_state AS stored (id, checked_at, changed_at, error)
VALUES (1, statement_timestamp(), statement_timestamp(), %(error)s)
ON CONFLICT (id) DO UPDATE SET
    checked_at = statement_timestamp(),
    changed_at = CASE WHEN (stored.error = '') = (%(error)s = '')
                 THEN stored.changed_at ELSE statement_timestamp() END,
    error = %(error)s
"""


def store_reachability() -> None:
    """Fetch Clerk's JWKS, which has no rate limit, and store whether Clerk answered.

    One request without retries, and one statement that writes `ClerkState`.
    """
    error = ""
    try:
        fetch_jwks()
    except ClerkError as failure:
        error = str(failure) or type(failure).__name__
    with connection.cursor() as cursor:
        cursor.execute(_STORE, {"error": error})
