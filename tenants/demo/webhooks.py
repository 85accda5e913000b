"""The step of the walk in which Clerk reports changes by webhook."""

import time
from collections.abc import Callable

from tenants.demo.listing import CREATED_IN_CLERK
from tenants.demo.report import ok
from tenants.demo.scene import ADMIN_ROLE, MINE, WEBHOOKS, WITHOUT_SYNC, Json, Scene, named

RENAMED = "Renamed in Clerk"

ARRIVAL_SECONDS = 15.0
FIRST_POLL_SECONDS = 0.02
"""Each poll waits half as long again as the one before: the limit is TENANT_LIST_LIMIT requests."""


def follow_webhooks(scene: Scene) -> None:
    """Changes in Clerk reach the mirror through web server and worker, without a sync.

    Clerk gets the URL of the endpoint in this step, so that earlier steps show the sync without webhooks.
    """
    endpoint = scene.ask_sandbox("/webhooks", {"url": f"{scene.url}{WEBHOOKS}"})
    scene.report.line(f"   Clerk now sends its webhooks to {endpoint['url']}")
    organization_id = scene.created["clerkOrgId"]
    started = time.monotonic()
    scene.call_clerk("PATCH", f"/organizations/{organization_id}", {"name": RENAMED})
    _verify_arrival(
        scene,
        started,
        f'"{RENAMED}" is the name here',
        lambda tenants: (named(tenants, RENAMED) or {}).get("clerkOrgId") == organization_id,
    )
    memberships = f"/organizations/{(named(scene.listed, CREATED_IN_CLERK) or {})['clerkOrgId']}/memberships"
    # Clerk requires that an organization keeps an admin.
    scene.call_clerk("POST", memberships, {"user_id": scene.colleague_id, "role": ADMIN_ROLE})
    started = time.monotonic()
    scene.call_clerk("DELETE", f"{memberships}/{scene.user_id}")
    _verify_arrival(
        scene,
        started,
        f'"{CREATED_IN_CLERK}" is gone from the list of the user whom Clerk removed from it',
        lambda tenants: named(tenants, CREATED_IN_CLERK) is None,
    )


def _verify_arrival(
    scene: Scene, started: float, claim: str, has_arrived: Callable[[list[Json]], bool]
) -> None:
    """Wait until the list shows a change; verify that the list shows it."""
    pause = FIRST_POLL_SECONDS
    while True:
        answer = ok(scene.api.get(f"{MINE}{WITHOUT_SYNC}"))
        seconds = time.monotonic() - started
        arrived = has_arrived(answer.json())
        if arrived or seconds > ARRIVAL_SECONDS:
            break
        time.sleep(pause)
        pause *= 1.5
    scene.show(answer, sync="skipped")
    found = "" if arrived else scene.ask_sandbox("/webhooks")
    when = f"{seconds * 1000:.0f} ms after the call" if arrived else f"within {ARRIVAL_SECONDS:.0f} s"
    scene.verify(arrived, f"{claim}, by webhook, {when}", found)
