"""The walk: the requests that a client of this project makes, step by step, with verified results.

A step may use what an earlier step left in the scene. To add a step, write a function of the scene that
raises DemoError unless all its claims are true, and add it to STEPS.
"""

import httpx

from tenants.demo.listing import create_tenant, list_with_sync, open_pages, show_legacy_tenant
from tenants.demo.migration import migrate_tenant
from tenants.demo.outage import (
    adopt_late_organization,
    create_while_clerk_is_down,
    list_while_clerk_is_down,
)
from tenants.demo.processes import DemoError, StepFailed
from tenants.demo.scene import Scene
from tenants.demo.webhooks import follow_webhooks

STEPS = (
    ("Create a tenant: in Clerk first, then here", create_tenant),
    ("List the tenants, synced from Clerk first", list_with_sync),
    ("A legacy tenant beside them", show_legacy_tenant),
    ("Clerk is down: list", list_while_clerk_is_down),
    ("Clerk is down: create", create_while_clerk_is_down),
    ("Clerk is back", adopt_late_organization),
    ("Changes in Clerk arrive by webhook", follow_webhooks),
    ("A legacy tenant moves to Clerk", migrate_tenant),
    ("The pages", open_pages),
)


def walk(scene: Scene) -> None:
    """Run every step; raise StepFailed with the name of a failed step."""
    for number, (title, step) in enumerate(STEPS, start=1):
        scene.report.heading(f"{number}. {title}")
        try:
            step(scene)
        except DemoError as failure:
            raise StepFailed(f"Step {number} failed ({title}). {failure}") from failure
        except httpx.HTTPError as error:
            call = f"{error.request.method} {error.request.url}"
            raise StepFailed(f"Step {number} failed ({title}). {call} got no answer: {error}") from error
        except (LookupError, TypeError) as error:
            raise StepFailed(f"Step {number} failed ({title}): an answer lacks {error}.") from error
    scene.report.heading(f"All {len(STEPS)} steps held.")
