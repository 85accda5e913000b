"""Times with and without `USE_TZ`."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from clerk_integration.times import age_of, in_utc, utc_text, with_zone

AT_8 = datetime(2026, 5, 12, 8, 0, 0, tzinfo=UTC)
AT_4_IN_NEW_YORK = datetime(2026, 5, 12, 4, 0, 0)  # noqa: DTZ001  (as Django reads it)


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_times_without_a_zone_are_in_time_zone() -> None:
    assert with_zone(AT_4_IN_NEW_YORK) == AT_8
    assert in_utc(AT_4_IN_NEW_YORK).isoformat() == "2026-05-12T08:00:00+00:00"
    assert utc_text(AT_4_IN_NEW_YORK) == "2026-05-12 08:00:00 UTC"
    assert abs(age_of(timezone.now() - timedelta(hours=1)) - timedelta(hours=1)) < timedelta(minutes=1)


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_times_without_a_zone_do_not_depend_on_the_zone_of_a_user() -> None:
    with timezone.override("Asia/Tokyo"):
        assert utc_text(AT_4_IN_NEW_YORK) == "2026-05-12 08:00:00 UTC"


def test_times_with_a_zone_keep_it() -> None:
    assert with_zone(AT_8) is AT_8
    assert utc_text(AT_8.astimezone(timezone.get_fixed_timezone(-240))) == "2026-05-12 08:00:00 UTC"
    assert age_of(datetime.now(UTC) + timedelta(hours=1)) < timedelta(0)
