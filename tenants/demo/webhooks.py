"""The step of the walk in which Clerk tells by webhook what has changed."""

import time
from collections.abc import Callable

from tenants.demo.listing import CREATED_IN_CLERK
from tenants.demo.scene import ADMIN_ROLE, MINE, WEBHOOKS, WITHOUT_SYNC, Json, Scene, named

RENAMED = "Renamed in Clerk"

ARRIVAL_SECONDS = 15.0
POLL_SECONDS = 0.02


def follow_webhooks(scene: Scene) -> None:
    """What changes in Clerk changes here, through web server and worker, without any sync.

    Clerk gets the address of the endpoint only now, so that the steps before show what a sync does alone.
    """
    told = scene.control.call("POST", "/webhooks", {"url": f"{scene.url}{WEBHOOKS}"}).require_ok()
    scene.report.call(f"Clerk's endpoint for webhooks is now {told.body['url']}")
    _rename(scene, scene.created["clerkOrgId"])
    _leave(scene, CREATED_IN_CLERK)


def _rename(scene: Scene, organization_id: str) -> None:
    started = time.monotonic()
    renamed = scene.clerk.call("PATCH", f"/organizations/{organization_id}", {"name": RENAMED}).require_ok()
    scene.report.call(f"Clerk: {renamed}")
    _verify_arrival(
        scene,
        started,
        f'"{RENAMED}" is the name here',
        lambda tenants: (named(tenants, RENAMED) or {}).get("clerkOrgId") == organization_id,
    )


def _leave(scene: Scene, name: str) -> None:
    """Remove the user from an organization, after Clerk's rule that it keeps an admin is met."""
    memberships = f"/organizations/{(named(scene.listed, name) or {})['clerkOrgId']}/memberships"
    successor = {"user_id": scene.colleague_id, "role": ADMIN_ROLE}
    scene.report.call(f"Clerk: {scene.clerk.call('POST', memberships, successor).require_ok()}")
    started = time.monotonic()
    removed = scene.clerk.call("DELETE", f"{memberships}/{scene.user_id}").require_ok()
    scene.report.call(f"Clerk: {removed}")
    _verify_arrival(
        scene,
        started,
        f'"{name}" is gone from the list of the user whom Clerk has removed from it',
        lambda tenants: named(tenants, name) is None,
    )


def _verify_arrival(
    scene: Scene, started: float, claim: str, has_arrived: Callable[[list[Json]], bool]
) -> None:
    """Wait until the mirror shows a change; verify that it does, and say how long that took."""
    while True:
        answer = scene.api.call("GET", f"{MINE}{WITHOUT_SYNC}").require_ok()
        seconds = time.monotonic() - started
        arrived = has_arrived(answer.body)
        if arrived or seconds > ARRIVAL_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    scene.show(answer)
    scene.verify_sync(answer, "skipped")
    found = "" if arrived else scene.control.call("GET", "/webhooks").body
    when = f"{seconds * 1000:.0f} ms after Clerk was asked" if arrived else f"within {ARRIVAL_SECONDS:.0f} s"
    scene.verify(arrived, f"{claim}, by webhook, {when}", found)
