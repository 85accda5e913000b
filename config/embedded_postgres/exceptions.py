"""What goes wrong with the embedded PostgreSQL."""

from django.db.utils import OperationalError


class EmbeddedPostgresError(OperationalError):
    """The embedded server cannot be used; Django treats it like any database that is down."""
