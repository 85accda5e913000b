"""The id of this database in the markers of organizations in Clerk."""

from uuid import UUID

from tenants.models import Installation


def installation_id() -> UUID:
    """Return this database's id. Writes `installation` the first time; the id never changes."""
    installation, _ = Installation.objects.get_or_create(pk=1)
    return installation.identity
