"""Steps of the walk: Clerk does not answer, and is back again."""

import time
from http import HTTPStatus
from typing import Any

from tenants.demo.environment import SETTINGS
from tenants.demo.scene import ADMIN_ROLE, CREATE, WITHOUT_SYNC, Json, Scene, ids, named

CREATED_LATE = "Created while Clerk is down"

DEADLINE_SECONDS = float(SETTINGS["CLERK_TIMEOUT_SECONDS"])
OVERHEAD_SECONDS = 3.0
"""What a request may take beside waiting for Clerk, on a machine that is busy with other things."""

SETTLE_SECONDS = 10.0


def list_while_clerk_is_down(scene: Scene) -> None:
    """With Clerk frozen, its port open and nobody answering, the local rows are served in time."""
    with scene.sandbox.process.frozen():
        answer = scene.list_tenants()
    scene.verify_sync(answer, "stale")
    scene.verify(
        answer.seconds < DEADLINE_SECONDS + OVERHEAD_SECONDS,
        f"Clerk's deadline of {DEADLINE_SECONDS:g} s is kept",
        f"{answer.seconds:.1f} s",
    )
    scene.verify(ids(answer.body) == ids(scene.listed), "the tenants are those of before", answer.body)


def create_while_clerk_is_down(scene: Scene) -> None:
    """A create fails loudly and leaves no tenant."""
    with scene.sandbox.process.frozen():
        answer = scene.api.call("POST", CREATE, {"name": CREATED_LATE})
        scene.report.call(str(answer))
        scene.report.records([answer.body])
        scene.verify(
            answer.status == HTTPStatus.INTERNAL_SERVER_ERROR
            and answer.body["errors"][0]["detail"].startswith("Failed to create organization"),
            "the answer is 500, Failed to create organization",
            answer.body,
        )
        left = scene.list_tenants(WITHOUT_SYNC)
    scene.verify_sync(left, "skipped")
    scene.verify(ids(left.body) == ids(scene.listed), "no tenant is left of it", left.body)


def adopt_what_clerk_did_late(scene: Scene) -> None:
    """Clerk, back again, carries out the create that lay at its door; the next list shows it."""
    posts = _settled_posts(scene)
    for post in posts:
        scene.report.call(f"Clerk, once it runs again: POST {post['path']} -> {post['status']}")
    scene.verify(len(posts) == 1, "the create was sent to Clerk exactly once", posts)
    answer = scene.list_tenants()
    scene.verify_sync(answer, "synced")
    scene.verify_level_with_clerk(answer.body)
    late = named(answer.body, CREATED_LATE)
    scene.verify(
        late is not None and late["role"] == ADMIN_ROLE,
        f"what Clerk has created late is adopted, the caller as its {ADMIN_ROLE}",
        answer.body,
    )


def _settled_posts(scene: Scene) -> list[Json]:
    """Return the creates that Clerk got while it was frozen, once it has dealt with them."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        calls = scene.control.call("GET", "/requests").body
        posts = [call for call in calls if call["method"] == "POST" and _asks_for(call["body"], CREATED_LATE)]
        if (posts and all(call["status"] for call in posts)) or time.monotonic() > deadline:
            return posts
        time.sleep(0.05)


def _asks_for(body: Any, name: str) -> bool:
    return isinstance(body, dict) and body.get("name") == name
