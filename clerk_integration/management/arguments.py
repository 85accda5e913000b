"""Types of command-line arguments, and options that exclude each other."""

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

_DURATION = re.compile(r"(?P<number>\d{1,6})(?P<unit>[smhdw])")
_POSITIVE = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_LONGEST = timedelta(days=36_500)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Parse `90s`, `15m`, `2h`, `3d` or `1w`; raise ArgumentTypeError for other text, and above 100 years."""
    form = _DURATION.fullmatch(text.strip())
    if form is None:
        raise ArgumentTypeError(f"{text!r} is not a duration; write 90s, 15m, 2h, 3d or 1w")
    length = timedelta(**{_UNITS[form["unit"]]: int(form["number"])})
    if length > _LONGEST:
        raise ArgumentTypeError(f"{text!r} is too long; write at most {_LONGEST.days}d")
    return length


def point_in_time(text: str) -> datetime:
    """Parse an ISO 8601 date or time (in UTC if it has no offset), or an age such as `2h`.

    Raise ArgumentTypeError for other text.
    """
    if _DURATION.fullmatch(text.strip()):
        return datetime.now(UTC) - duration(text)
    found = None
    with suppress(ValueError):
        date = parse_date(text)
        found = datetime.combine(date, time.min) if date else parse_datetime(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is not a time; write 2026-05-12T08:00:00Z, 2026-05-12, 2h or 3d")
    return found if timezone.is_aware(found) else found.replace(tzinfo=UTC)


def positive(text: str) -> int:
    """Parse a whole number of at least 1; raise ArgumentTypeError for other text."""
    if not _POSITIVE.fullmatch(text.strip()):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999999")
    return int(text)


def refuse_others(why: str, options: Mapping[str, Any], others: Iterable[str]) -> None:
    """Raise CommandError, with `why`, if `options` holds a value for one of the names in `others`."""
    given = [f"--{name.replace('_', '-')}" for name in others if options[name] not in (None, False)]
    if given:
        raise CommandError(f"{why}; leave out {', '.join(given)}.")
