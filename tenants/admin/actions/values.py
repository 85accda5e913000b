"""The values of a tenant and of its organization in Clerk, side by side."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clerk_integration.entities import ClerkOrganization
from tenants.mirror.rows import MIRRORED_COLUMNS, organization_rows
from tenants.models import Tenant

LABELS = {
    "name": "Name",
    "slug": "Slug",
    "logo_url": "Logo URL",
    "clerk_metadata": "Public metadata",
    "clerk_created_at": "Created in Clerk",
    "clerk_updated_at": "Updated in Clerk",
}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A mirrored column: its label, the value here and in Clerk as text, and whether they differ."""

    label: str
    here: str
    in_clerk: str
    differs: bool


def field_rows(tenant: Tenant, organization: ClerkOrganization) -> Sequence[FieldRow]:
    """Return a row for each mirrored column."""
    [incoming] = organization_rows([organization])
    return [_row(tenant, column, incoming[column]) for column in MIRRORED_COLUMNS]


def _row(tenant: Tenant, column: str, in_clerk: Any) -> FieldRow:
    here = getattr(tenant, column)
    return FieldRow(LABELS[column], _text(column, here), _text(column, in_clerk), here != in_clerk)


def _text(column: str, value: Any) -> str:
    """Return the value as text; "none" if there is none."""
    if value in (None, "", {}):
        return "none"
    if column.endswith("_at"):
        return time_text(value)
    if column == "clerk_metadata":
        return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    return str(value)


def time_text(stamp: int) -> str:
    """Return Clerk's time in milliseconds as text in UTC."""
    try:
        time = datetime.fromtimestamp(stamp // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{stamp} ms"
    return f"{time:%Y-%m-%d %H:%M:%S}.{stamp % 1000:03} UTC"
