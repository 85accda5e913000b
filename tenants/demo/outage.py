"""Steps of the walk: Clerk does not answer, and then answers again."""

import time
from http import HTTPStatus

from tenants.demo.environment import SETTINGS
from tenants.demo.report import SYNC_HEADER, summary
from tenants.demo.scene import ADMIN_ROLE, CREATE, MINE, WITHOUT_SYNC, Json, Scene, ids, named

CREATED_LATE = "Created while Clerk is down"

DEADLINE_SECONDS = float(SETTINGS["CLERK_TIMEOUT_SECONDS"])
OVERHEAD_SECONDS = 3.0
"""How much longer than Clerk's deadline a request may take on a busy machine."""

SETTLE_SECONDS = 10.0


def list_while_clerk_is_down(scene: Scene) -> None:
    """While Clerk is suspended, the list serves local rows within the deadline."""
    started = time.monotonic()
    with scene.frozen_clerk():
        tenants = scene.list_tenants(sync="stale")
        seconds = time.monotonic() - started
    scene.verify(
        seconds < DEADLINE_SECONDS + OVERHEAD_SECONDS,
        f"the list did not wait longer than Clerk's deadline of {DEADLINE_SECONDS:g} s",
        f"{seconds:.1f} s",
    )
    scene.verify(ids(tenants) == ids(scene.listed), "the list has the same tenants", tenants)


def create_while_clerk_is_down(scene: Scene) -> None:
    """A create fails and leaves no tenant."""
    with scene.frozen_clerk():
        answer = scene.api.post(CREATE, json={"name": CREATED_LATE})
        scene.report.line(f"   {summary(answer)}")
        scene.report.records([answer.json()])
        scene.verify(
            answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
            and answer.json()["errors"][0]["detail"].startswith("Failed to create organization"),
            "the answer is 500, Failed to create organization",
            answer.text,
        )
        tenants = scene.list_tenants(WITHOUT_SYNC, sync="skipped")
    scene.verify(ids(tenants) == ids(scene.listed), "no tenant was created", tenants)


def adopt_late_organization(scene: Scene) -> None:
    """Clerk carries out the create when it continues, and the next list shows the organization."""
    posts = _settled_posts(scene)
    for post in posts:
        scene.report.line(f"   Clerk, running again: POST {post['path']} -> {post['status']}")
    scene.verify(len(posts) == 1, "the create was sent to Clerk exactly once", posts)
    tenants = _list_when_synced(scene)
    scene.verify_in_sync_with_clerk(tenants)
    late = named(tenants, CREATED_LATE)
    scene.verify(
        late is not None and late["role"] == ADMIN_ROLE,
        f"the organization is mirrored, and the caller is its {ADMIN_ROLE}",
        tenants,
    )


def _list_when_synced(scene: Scene) -> list[Json]:
    """Repeat the list until it is synced: after failures, Clerk is not asked again for some seconds."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        answer = scene.api.get(MINE)
        if answer.headers.get(SYNC_HEADER) == "synced" or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    scene.show(answer, sync="synced")
    tenants: list[Json] = answer.json()
    return tenants


def _settled_posts(scene: Scene) -> list[Json]:
    """Wait for Clerk to answer the create requests of the outage, and return the requests."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        bodies = ((call, call["body"]) for call in scene.ask_sandbox("/requests") if call["method"] == "POST")
        posts = [call for call, body in bodies if isinstance(body, dict) and body.get("name") == CREATED_LATE]
        if (posts and all(call["status"] for call in posts)) or time.monotonic() > deadline:
            return posts
        time.sleep(0.05)
