"""Who we are in Clerk: the id of this database in the markers of organizations."""

from typing import cast
from uuid import UUID, uuid4

from tenants.sql import execute, query


def installation_id() -> UUID:
    """Return this database's id. Writes `installation` the first time; the id never changes."""
    while not (rows := query("SELECT identity FROM installation")):
        execute(
            "INSERT INTO installation (id, identity) VALUES (1, %(identity)s) ON CONFLICT DO NOTHING",
            identity=uuid4(),
        )
    return cast("UUID", rows[0][0])
