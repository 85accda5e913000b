"""The template tags of the admin pages."""

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template
from django.utils import timezone

from tenants.models import Tenant
from tenants.templatetags.tenants_admin import ago, badge, foreign, isolated
from tests.tenants.admin.hostile import IDS, RIGHT_TO_LEFT, TEXTS, assert_harmless


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(minutes=1, seconds=5), "1\xa0minute ago"),
        (timedelta(hours=2, minutes=59), "2\xa0hours ago"),
        (timedelta(days=3), "3\xa0days ago"),
        (-timedelta(minutes=5, seconds=30), "in 5\xa0minutes"),
    ],
)
def test_ago_shows_the_largest_unit(since: timedelta, shown: str) -> None:
    assert f">{shown}</time>" in ago(timezone.now() - since)


def test_ago_has_the_exact_time_in_title_and_datetime() -> None:
    shown = ago(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert 'title="2026-01-02 03:04:05 UTC"' in shown
    assert 'datetime="2026-01-02T03:04:05+00:00"' in shown


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_ago_without_use_tz_has_the_zone_of_the_project() -> None:
    shown = ago(datetime(2026, 1, 2, 3, 4, 5))  # noqa: DTZ001  (as Django reads it)
    assert 'title="2026-01-02 03:04:05 EST"' in shown
    assert 'datetime="2026-01-02T03:04:05-05:00"' in shown
    assert ">just now</time>" in ago(timezone.now())
    assert ">just now</time>" in ago(datetime.now(UTC))


def test_ago_none_is_never() -> None:
    assert ago(None) == "never"
    assert ago(None, "-") == "-"


@pytest.mark.parametrize(
    ("tenant", "shown"),
    [
        (Tenant(), ["Active", "good", "Legacy", "neutral"]),
        (Tenant(status="suspended", clerk_org_id="org_1"), ["Suspended", "warning", "Linked", "info"]),
        (
            Tenant(status="deactivated", clerk_org_id="org_1", deleted_at=datetime(2026, 1, 1, tzinfo=UTC)),
            ["Deactivated", "bad", "Deleted in Clerk", "bad"],
        ),
    ],
)
def test_badges_of_a_tenant_name_status_and_link(tenant: Tenant, shown: list[str]) -> None:
    source = "{% load tenants_admin %}{{ tenant|status_badge }}{{ tenant|link_badge }}"
    page = Template(source).render(Context({"tenant": tenant}))
    for text, kind in (shown[:2], shown[2:]):
        assert f'tenants-badge--{kind}">{text}</span>' in page


def test_badge_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no badge 'green'"):
        badge("Active", "green")


def test_isolated_ends_the_direction_of_the_text() -> None:
    assert isolated("Acme & Söhne") == "Acme & Söhne"
    assert isolated(RIGHT_TO_LEFT) == f"\N{FIRST STRONG ISOLATE}{RIGHT_TO_LEFT}\N{POP DIRECTIONAL ISOLATE}"


@pytest.mark.parametrize("text", TEXTS, ids=IDS)
def test_badge_and_foreign_text_are_escaped(text: str) -> None:
    assert_harmless(f"<body>{foreign(text)}", text)
    assert_harmless(f'<body dir="auto">{badge(text)}', text)
