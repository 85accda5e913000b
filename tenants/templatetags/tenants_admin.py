"""Tags and filters for the admin pages: times, badges and texts of other people.

Also called from Python, for the columns of a list.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from unicodedata import bidirectional

from django import template
from django.apps import apps
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from clerk_integration.times import age_of, with_zone
from tenants.querysets import LATEST_STAMP

register = template.Library()

MAX_LINE = 200

JUST_NOW = timedelta(minutes=1)

BADGES = {"good", "warning", "bad", "info", "neutral"}

RIGHT_TO_LEFT = {"R", "AL", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "FSI", "PDF", "PDI"}
"""Unicode's classes of characters that change the direction of a text."""

FIRST_STRONG_ISOLATE, POP_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"

STATUS_BADGES = {"active": "good", "suspended": "warning", "deactivated": "bad"}
DELIVERY_BADGES = {"received": "info", "processed": "good", "ignored": "neutral", "failed": "bad"}
ATTEMPT_BADGES = {"sent": "info", "unknown": "warning", "succeeded": "good", "failed": "bad"}


@register.filter
def ago(time: datetime | None, never: str = "never") -> str | SafeString:
    """Return the time as "2 hours ago", with the exact time on hover; return `never` for None."""
    if time is None:
        return never
    local = timezone.localtime(with_zone(time))
    exact = f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    return format_html(
        '<time class="tenants-time" datetime="{}" title="{}">{}</time>',
        local.isoformat(),
        exact,
        _distance(local),
    )


@register.simple_tag
def badge(text: object, kind: str = "neutral") -> SafeString:
    """Return the text as a badge; `kind` is one of BADGES. The text alone carries the meaning."""
    if kind not in BADGES:
        raise ValueError(f"There is no badge {kind!r}, only {', '.join(sorted(BADGES))}.")
    return format_html('<span class="tenants-badge tenants-badge--{}">{}</span>', kind, text)


@register.filter
def status_badge(tenant: Any) -> SafeString:
    """Return the badge of the tenant's status."""
    return badge(tenant.get_status_display(), STATUS_BADGES[tenant.status])


@register.filter
def link_badge(tenant: Any) -> SafeString:
    """Return the badge that says whether the tenant is linked, legacy, or deleted in Clerk."""
    if tenant.deleted_at is not None:
        return badge("Deleted in Clerk", "bad")
    return badge("Legacy", "neutral") if tenant.is_legacy else badge("Linked", "info")


@register.filter
def delivery_badge(delivery: Any) -> SafeString:
    """Return the badge of the delivery's status."""
    return badge(delivery.get_status_display(), DELIVERY_BADGES[delivery.status])


@register.filter
def attempt_badge(attempt: Any) -> SafeString:
    """Return the badge of the state of a creation attempt."""
    return badge(attempt.get_state_display().capitalize(), ATTEMPT_BADGES[attempt.state])


@register.filter
def active_badge(membership: Any) -> SafeString:
    """Return the badge that says whether the membership is active or has ended."""
    return badge("Active", "good") if membership.is_active else badge("Ended", "neutral")


@register.filter
def from_clerk(stamp: int | None) -> datetime | None:
    """Return Clerk's time in milliseconds as a time; None if it is unknown or implausible."""
    if stamp is None or not 0 <= stamp <= LATEST_STAMP:
        return None
    return datetime.fromtimestamp(stamp / 1000, UTC)


@register.filter
def foreign(text: object) -> SafeString:
    """Return a text of other people: wrapped anywhere, and its direction does not change that of the page."""
    return format_html('<bdi class="tenants-text" dir="auto">{}</bdi>', text)


@register.filter
def shown_value(value: Any) -> str:
    """Return a JSON value of the history: a text as it is, nothing as a dash, anything else as JSON."""
    if value in (None, ""):
        return "-"
    return foreign(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@register.filter
def origin(change: Any) -> SafeString:
    """Return who made a change of the history, and from where."""
    source = change.get_source_display()
    who = foreign(change.actor) if change.actor else "the system"
    return format_html("{} ({})", who, source if source.isupper() else source.lower())


@register.filter
def last_line(text: str) -> str:
    """Return the last line of an error with its traceback, shortened to MAX_LINE characters."""
    lines = text.strip().splitlines()
    line = lines[-1].strip() if lines else ""
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


@register.filter
def isolated(text: object) -> str:
    """Return a text of other people for a plain message; right-to-left writing in it does not leave it.

    `foreign` does the same in HTML.
    """
    plain = str(text)
    is_mixed = any(bidirectional(character) in RIGHT_TO_LEFT for character in plain)
    return f"{FIRST_STRONG_ISOLATE}{plain}{POP_ISOLATE}" if is_mixed else plain


@register.simple_tag
def is_unfold() -> bool:
    """Return whether the admin is Unfold's."""
    return apps.is_installed("unfold")


def _distance(time: datetime) -> str:
    age = age_of(time)
    if abs(age) < JUST_NOW:
        return "just now"
    now = time + age
    if age < timedelta(0):
        return f"in {timesince(now, time, depth=1)}"
    return f"{timesince(time, now, depth=1)} ago"
