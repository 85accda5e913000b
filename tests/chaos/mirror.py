"""Compare the mirror of a deployment with its local Clerk."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping

from django.db import connection

from clerk_integration.models import WebhookDelivery
from tenants.models import Membership, Tenant
from tests.chaos.load import Load
from tests.sandbox import SandboxControl

Done = WebhookDelivery.Status.PROCESSED, WebhookDelivery.Status.IGNORED
PAGE = 500


def seconds_until_in_sync(clerk: SandboxControl, within: float) -> float | None:
    """Return after how many seconds the mirror equals Clerk and no delivery waits; None if not in time."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        if not differences(clerk):
            return time.monotonic() - began
        time.sleep(0.5)
    return None


def differences(clerk: SandboxControl) -> list[str]:
    """Return what differs between the mirror and Clerk, and the deliveries that are not processed."""
    connection.close()
    here = {
        str(key): (name, slug)
        for key, name, slug in Tenant.objects.filter(clerk_org_id__isnull=False, deleted_at=None).values_list(
            "clerk_org_id", "name", "slug"
        )
    }
    there = {one["id"]: (one["name"], one["slug"]) for one in _all(clerk, "/organizations")}
    members_here = {
        f"{organization} {user}": role
        for organization, user, role in Membership.objects.filter(
            is_active=True, tenant__clerk_org_id__isnull=False
        ).values_list("tenant__clerk_org_id", "clerk_user_id", "role")
    }
    members_there = {
        f"{one['organization']['id']} {one['public_user_data']['user_id']}": one["role"]
        for one in _all(clerk, "/organization_memberships")
    }
    waiting = WebhookDelivery.objects.exclude(status__in=Done).count()
    return [
        *_differing("organization", here, there),
        *_differing("membership", members_here, members_there),
        *([f"{waiting} deliveries are not processed"] if waiting else []),
    ]


def doubled_or_lost(clerk: SandboxControl, load: Load) -> list[str]:
    """Return the creates that made more than one organization, and those that were confirmed and are gone."""
    names = Counter(one["name"] for one in _all(clerk, "/organizations"))
    doubled = [f"{name}: {names[name]} organizations" for name in load.tried if names[name] > 1]
    lost = [f"{name}: confirmed, and not in Clerk" for name in load.created if names[name] == 0]
    return doubled + lost


def _all(clerk: SandboxControl, path: str) -> Iterator[dict]:  # type: ignore[type-arg]
    offset = 0
    while True:
        page = clerk.api("GET", path, limit=PAGE, offset=offset)["data"]
        yield from page
        offset += PAGE
        if len(page) < PAGE:
            return


def _differing(kind: str, here: Mapping[str, object], there: Mapping[str, object]) -> list[str]:
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return [f"{kind} {key}: here {here.get(key)}, in Clerk {there.get(key)}" for key in keys]
