"""Times of the database, which have no time zone if the project has `USE_TZ = False`."""

from datetime import UTC, datetime, timedelta

from django.utils import timezone


def with_zone(time: datetime) -> datetime:
    """Return the time with a time zone. Without `USE_TZ`, Django's times are in TIME_ZONE and have none."""
    return time if timezone.is_aware(time) else timezone.make_aware(time, timezone.get_default_timezone())


def in_utc(time: datetime) -> datetime:
    """Return the time in UTC."""
    return with_zone(time).astimezone(UTC)


def utc_text(time: datetime) -> str:
    """Return the time in UTC, such as `2026-05-12 08:00:00 UTC`."""
    return f"{in_utc(time):%Y-%m-%d %H:%M:%S} UTC"


def age_of(time: datetime) -> timedelta:
    """Return how long ago the time was; negative for a time in the future."""
    return datetime.now(UTC) - with_zone(time)
