"""What the charts count."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from clerk_integration.models import WebhookDelivery
from tenants.models import Tenant
from tenants.monitoring.days import DAYS, counts_by_day

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def test_counts_by_day_of_each_series_have_every_day(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number, (status, age) in enumerate(
        [("failed", 0), ("processed", 0), ("failed", 3), ("processed", 20)]
    ):
        WebhookDelivery.objects.create(
            svix_id=f"msg_{number}", event_type="x", status=status, received_at=Now() - age * DAY
        )
    tenant = Tenant.objects.create(name="Acme")
    tenant.status = "suspended"
    tenant.save()

    with django_assert_num_queries(1):
        counts = counts_by_day(["deliveries", "failures", "changes"])

    today = timezone.localdate()
    assert [len(days) for days in counts.values()] == [DAYS] * 3
    assert {day: count for day, count in counts["deliveries"].items() if count} == {
        today - 3 * DAY: 1,
        today: 2,
    }
    assert {day: count for day, count in counts["failures"].items() if count} == {
        today - 3 * DAY: 1,
        today: 1,
    }
    assert counts["changes"][today] >= 1


@pytest.mark.parametrize("time_zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_counts_by_day_use_the_days_of_the_time_zone(settings: Settings, time_zone: str) -> None:
    settings.TIME_ZONE = time_zone
    WebhookDelivery.objects.create(svix_id="msg_1", event_type="x")

    counts = counts_by_day(["deliveries"])

    assert list(counts["deliveries"].values()) == [0] * (DAYS - 1) + [1]


def test_counts_by_day_of_no_series_ask_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert counts_by_day([]) == {}
