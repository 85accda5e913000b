"""The page at GET /sandbox, for a person who wants to see what is in there."""

from collections.abc import Iterable, Sequence
from html import escape

from clerk_integration.sandbox.coverage import COVERAGE
from clerk_integration.sandbox.local_clerk import LocalClerk

SHOWN = 50
"""Rows per table; the API lists them all."""

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;max-width:75rem}"
    "table{border-collapse:collapse;width:100%;margin-bottom:2rem}"
    "th,td{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left}"
    "code{font-size:13px}"
)


def render_page(clerk: LocalClerk) -> str:
    """Return the page: organizations, users, latest calls and webhooks, waiting faults and the coverage."""
    with clerk.store.lock:
        tables = clerk.store.tables
        organizations = [
            (row.id, row.name, row.slug or "-", str(len(tables.members.get(row.id, ()))))
            for row in list(tables.organizations.values())[-SHOWN:]
        ]
        users = [
            (row.id, row.email_address or row.username or "-", str(len(tables.memberships.get(row.id, ()))))
            for row in list(tables.users.values())[-SHOWN:]
        ]
        sizes = f"{len(tables.organizations)} organizations, {len(tables.users)} users"
    calls = [
        (entry.request.method, entry.request.path, str(entry.status or "no answer"))
        for entry in clerk.log.entries()[-SHOWN:]
    ]
    webhooks = [
        (message.id, message.type, message.status, str(len(message.attempts)))
        for message in clerk.deliveries.messages()[-SHOWN:]
    ]
    faults = [(fault.match, str(fault.times)) for fault in clerk.faults.waiting()]
    coverage = [(row.method, row.path, row.coverage, row.notes) for row in COVERAGE]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Clerk sandbox</title>"
        f"<style>{_STYLE}</style><h1>Clerk sandbox</h1>"
        f"<p>Instance <code>{escape(clerk.instance_id)}</code>: {sizes}. "
        f"The latest {SHOWN} of each are shown.</p>"
        + _table("Organizations", ("id", "name", "slug", "members"), organizations)
        + _table("Users", ("id", "identifier", "organizations"), users)
        + _table("Calls", ("method", "path", "status"), calls)
        + _table("Webhooks", ("id", "type", "status", "attempts"), webhooks)
        + _table("Waiting faults", ("match", "times"), faults)
        + _table("Coverage", ("method", "path", "coverage", "notes"), coverage)
    )


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell.encode('utf-8', 'replace').decode())}" for cell in row)
        for row in rows
    )
    return f"<h2>{escape(title)}</h2><table><tr>{head}{body}</table>"
