"""The HTML page at GET /sandbox, which shows the records and the state of the local Clerk."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice
from typing import TypeVar

from clerk_integration.sandbox.coverage import COVERAGE
from clerk_integration.sandbox.local_clerk import LocalClerk

T = TypeVar("T")

SHOWN = 50
"""Maximum number of rows in a table; the API lists all rows."""

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;max-width:75rem}"
    "table{border-collapse:collapse;width:100%;margin-bottom:2rem}"
    "th,td{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left}"
    "code{font-size:13px}"
)


def render_page(clerk: LocalClerk) -> str:
    """Return the page: organizations, users, latest requests and webhooks, open faults and the coverage."""
    store = clerk.store
    organizations = [
        (row.id, row.name, row.slug or "-", store.members_count(row.id))
        for row in _latest(store.organizations.values())
    ]
    users = [
        (row.id, row.email_address or row.username or "-", len(store.memberships.get(row.id, ())))
        for row in _latest(store.users.values())
    ]
    calls = [
        (entry.request.method, entry.request.path, entry.status or "no answer")
        for entry in _latest(clerk.log)
    ]
    webhooks = [
        (message.id, message.type, message.status, len(message.attempts))
        for message in _latest(clerk.instance.deliveries.messages())
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Clerk sandbox</title>"
        f"<style>{_STYLE}</style><h1>Clerk sandbox</h1>"
        f"<p>Instance <code>{escape(clerk.instance.keys.instance_id)}</code>: "
        f"{len(store.organizations)} organizations, {len(store.users)} users. "
        f"The latest {SHOWN} of each are shown, newest first.</p>"
        + _table("Organizations", "id, name, slug, members", organizations)
        + _table("Users", "id, identifier, organizations", users)
        + _table("Calls", "method, path, status", calls)
        + _table("Webhooks", "id, type, status, attempts", webhooks)
        + _table("Waiting faults", "match, times", [(fault.match, fault.times) for fault in clerk.faults])
        + _table("Coverage", "method, path, coverage, notes", COVERAGE)
    )


def _latest(rows: Iterable[T]) -> Iterable[T]:
    return islice(reversed(list(rows)), SHOWN)


def _table(title: str, columns: str, rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{column}" for column in columns.split(", "))
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}" for cell in row) for row in rows)
    return f"<h2>{title}</h2><table><tr>{head}{body}</table>"


def _text(cell: object) -> str:
    return escape(str(cell).encode("utf-8", "replace").decode())
