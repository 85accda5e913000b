"""A list of Clerk's that a hostile server pages, and that may change with every request."""

import re
from collections.abc import Callable
from typing import Any

from tests.hostile_server import HostileServer, respond_by

PAGE_SIZE = 500

Records = list[dict[str, Any]]
Change = Callable[[int, Records], None]
"""Called with the number of the request (from 1) and the records, before the server answers."""


def record(number: int) -> dict[str, Any]:
    """Return a record that can be read as an organization and as a membership of user_1 in org_1."""
    return {
        "id": f"org_{number}",
        "name": str(number),
        "role": "org:member",
        "organization": {"id": "org_1", "name": "Acme"},
        "public_user_data": {"user_id": "user_1"},
    }


def serve_list(
    server: HostileServer, records: Records, change: Change = lambda number, records: None
) -> None:
    """Let the server answer every request with a page of `records`."""
    asked = 0

    def page() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        change(asked, records)
        found = re.search(r"offset=(\d+)", server.requests[-1])
        offset = int(found[1]) if found else 0
        return {"data": records[offset : offset + PAGE_SIZE], "total_count": len(records)}

    server.script(respond_by(page))


def grow_by_one(number: int, records: Records) -> None:
    """Add one record at the end, with every request but the first."""
    if number > 1:
        records.append(record(len(records)))
