"""The walk: what a client of this project does, one step after the other, each answer verified.

A step that follows from another uses what that one left in the scene. To add one, write a function
of the scene and put it into STEPS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tenants.demo.exceptions import DemoError, StepFailed
from tenants.demo.listing import create_tenant, list_with_sync, open_pages, show_legacy_tenant
from tenants.demo.migration import migrate_tenant
from tenants.demo.outage import (
    adopt_what_clerk_did_late,
    create_while_clerk_is_down,
    list_while_clerk_is_down,
)
from tenants.demo.scene import Scene
from tenants.demo.webhooks import follow_webhooks


@dataclass(frozen=True)
class Step:
    """A part of the walk; `act` raises DemoError unless all that it claims was verified."""

    title: str
    act: Callable[[Scene], None]


STEPS = (
    Step("Create a tenant: in Clerk first, then here", create_tenant),
    Step("List the tenants, brought level with Clerk first", list_with_sync),
    Step("A legacy tenant beside them", show_legacy_tenant),
    Step("Clerk is down: list", list_while_clerk_is_down),
    Step("Clerk is down: create", create_while_clerk_is_down),
    Step("Clerk is back", adopt_what_clerk_did_late),
    Step("Changes in Clerk arrive by webhook", follow_webhooks),
    Step("A legacy tenant moves to Clerk", migrate_tenant),
    Step("The pages", open_pages),
)


def walk(scene: Scene) -> None:
    """Take every step; raise StepFailed, naming the step, at the first that does not hold."""
    for number, step in enumerate(STEPS, start=1):
        scene.report.heading(f"{number}. {step.title}")
        try:
            step.act(scene)
        except DemoError as failure:
            raise StepFailed(f"Step {number} failed ({step.title}). {failure}") from failure
        except (LookupError, TypeError) as error:
            raise StepFailed(f"Step {number} failed ({step.title}): an answer lacks {error}.") from error
    scene.report.heading(f"All {len(STEPS)} steps held.")
