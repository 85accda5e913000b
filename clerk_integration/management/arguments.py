"""Times, durations and numbers on the command line, and options that exclude each other."""

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

_DURATION = re.compile(r"(?P<number>\d{1,6})(?P<unit>[smhdw])")
_POSITIVE = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `2h`, `3d` or `1w`; raise ArgumentTypeError for anything else."""
    form = _DURATION.fullmatch(text.strip())
    if form is None:
        raise ArgumentTypeError(f"{text!r} is no duration; write 90s, 15m, 2h, 3d or 1w")
    return timedelta(**{_UNITS[form["unit"]]: int(form["number"])})


def moment(text: str) -> datetime:
    """Read an ISO 8601 date or time (UTC unless it names an offset), or how long ago it was (`2h`).

    Raise ArgumentTypeError for anything else.
    """
    if _DURATION.fullmatch(text.strip()):
        return timezone.now() - duration(text)
    try:
        found = parse_datetime(text) or _midnight(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no time; write 2026-05-12T08:00:00Z, 2026-05-12, 2h or 3d")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def positive(text: str) -> int:
    """Read a whole number from 1 on; raise ArgumentTypeError for anything else."""
    if not _POSITIVE.fullmatch(text.strip()):
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 to 999999999")
    return int(text)


def refuse_others(why: str, options: Mapping[str, Any], others: Iterable[str]) -> None:
    """Raise CommandError, which says `why`, when one of the `others` is given, which would be ignored."""
    given = [f"--{name.replace('_', '-')}" for name in others if options[name] not in (None, False)]
    if given:
        raise CommandError(f"{why}; leave out {', '.join(given)}.")


def _midnight(text: str) -> datetime | None:
    date = parse_date(text)
    return None if date is None else datetime.combine(date, time.min)
