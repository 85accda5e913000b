"""The list is made from rows without model instances; its bytes are those that the serializer would make."""

from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.renderers import JSONRenderer

from tenants.api.serializers import TenantSerializer
from tenants.models import Membership, Tenant, UserSync
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db

ORDER = ["-caller_is_primary", "caller_joined_at", "id"]

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

AWKWARD: list[dict[str, Any]] = [
    {"clerk_org_id": "org_1", "name": "Zoë & Søns <b>", "slug": None, "created_at": NOON},
    {"name": 'Quotes " and \\ \t\n\u2028\u2029\u0001\x7f', "slug": "", "suspension_reason": "why\r\n"},
    {"clerk_org_id": "org_3", "name": "日本 🏢", "updated_at": NOON + timedelta(microseconds=1)},
    {"clerk_metadata": {"n": 1.0, "big": 2**70, "e": 1e30, "small": 1e-7, "pi": 3.141592653589793}},
    {"clerk_metadata": {"Snake_case": None, "ä": {"deep": [1, [True, {}], "\u2028"]}, "": "", "7": False}},
    {"last_synced_at": NOON + timedelta(microseconds=120_000), "logo_url": "https://x.example/?a=1&b=%20"},
    {
        "name": "",
        "created_at": datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "status": "suspended",
    },
    {"name": "%s {} %(user_id)s", "last_synced_at": None, "updated_at": datetime(9999, 12, 31, tzinfo=UTC)},
    {"clerk_org_id": "org_9", "status": "deactivated", "deleted_at": NOON, "suspension_reason": "gone"},
]
MEMBERSHIPS: list[dict[str, Any]] = [
    {"role": "admin", "clerk_created_at": 1_700_000_000_123},
    {"role": "org:admin"},
    {"role": "org:admin", "clerk_created_at": 1_600_000_000_000},
    {"role": "org:custom", "clerk_created_at": 1_600_000_000_000},
]


def populate(ada: Caller, count: int, flagged: int | None) -> None:
    """Make the caller a member of so many tenants, and the caller fresh."""
    UserSync.objects.create(clerk_user_id=ada.id, synced_at=timezone.now())
    rows = zip(AWKWARD, islice(cycle(MEMBERSHIPS), count), strict=False)
    for number, (columns, membership) in enumerate(rows):
        tenant = Tenant.objects.create(**{"name": f"Tenant {number}"} | columns)
        Membership.objects.create(
            tenant=tenant, clerk_user_id=ada.id, is_primary=number == flagged, **membership
        )
        Membership.objects.create(tenant=tenant, clerk_user_id="user_other", role="org:admin")


def serialized(ada: Caller, **filters: Any) -> bytes:
    """Return what the serializer makes of model instances, in the order of the list."""
    tenants = Tenant.objects.visible_to(ada.id).filter(**filters)
    data = TenantSerializer(tenants.order_by(*ORDER), many=True).data
    return bytes(JSONRenderer().render(data))


@pytest.mark.parametrize(("count", "flagged"), [(0, None), (1, None), (3, 1), (9, None), (9, 5), (9, 6)])
def test_list_bytes_are_those_of_the_serializer(ada: Caller, count: int, flagged: int | None) -> None:
    populate(ada, count, flagged)

    everything = ada.tenants("?sync_from_clerk=false&active_only=false")
    active = ada.tenants("?sync_from_clerk=false")

    assert everything.content == serialized(ada)
    assert active.content == serialized(ada, status="active")
    primaries = [tenant["id"] for tenant in everything.json() if tenant["isPrimary"]]
    assert primaries == ([ada.get("/tenants/me/primary-id").json()["tenantId"]] if count else [])


@pytest.mark.parametrize("use_tz", [True, False])
def test_list_times_are_utc_in_any_time_zone_of_the_project(ada: Caller, settings: Any, use_tz: bool) -> None:
    populate(ada, 9, None)
    expected = ada.tenants("?sync_from_clerk=false").content
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "Asia/Kathmandu"

    assert ada.tenants("?sync_from_clerk=false").content == expected
    assert serialized(ada, status="active") == expected
