"""Count what happened on each of the last days, for the charts of the dashboard."""

from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

from django.conf import settings
from django.db.models import Count, QuerySet, Value
from django.db.models.functions import TruncDate
from django.utils import timezone

from clerk_integration.models import WebhookDelivery
from tenants.models import TenantHistory

DAYS = 14

Series = Literal["deliveries", "failures", "changes"]


def counts_by_day(series: Collection[Series]) -> dict[Series, dict[date, int]]:
    """Return the number of each series on each of the last DAYS days, today last. One statement.

    `deliveries` are the webhooks that arrived on the day, `failures` those of them that are failed now, and
    `changes` the entries in the history of tenants. A day is a day in Django's time zone.
    """
    today = timezone.localdate() if settings.USE_TZ else date.today()  # noqa: DTZ011 (USE_TZ is off)
    days = [today - timedelta(days=ago) for ago in reversed(range(DAYS))]
    counts: dict[Series, dict[date, int]] = {name: dict.fromkeys(days, 0) for name in series}
    queries = [_by_day(name, days[0]) for name in counts]
    if not queries:
        return counts
    for row in queries[0].union(*queries[1:], all=True):
        # A row of tomorrow was written after midnight, when `days` was already known.
        if row["day"] in counts[row["series"]]:
            counts[row["series"]][row["day"]] = row["count"]
    return counts


def _by_day(series: Series, first: date) -> QuerySet[Any, dict[str, Any]]:
    start = datetime.combine(first, time.min)
    start = timezone.make_aware(start) if settings.USE_TZ else start
    rows: QuerySet[Any]
    match series:
        case "changes":
            rows, column = TenantHistory.objects.all(), "at"
        case "failures":
            rows, column = WebhookDelivery.objects.filter(status=WebhookDelivery.Status.FAILED), "received_at"
        case "deliveries":
            rows, column = WebhookDelivery.objects.all(), "received_at"
    found = rows.filter(**{f"{column}__gte": start}).annotate(day=TruncDate(column), series=Value(series))
    counted: QuerySet[Any, Any] = found.order_by().values("series", "day").annotate(count=Count("pk"))
    return counted
