"""The walk: the requests that a client of this project makes, step by step, with verified results.

A step may use what an earlier step left in the scene. To add a step, write a function of the scene that
raises DemoError unless all its claims are true, and add it to STEPS.
"""

import textwrap

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
    (
        "Create a tenant: in Clerk first, then here",
        "A user of your product creates a team. Clerk manages teams and calls them organizations, so the"
        " server creates one there, and then its own row for it: the tenant.",
        create_tenant,
    ),
    (
        "List the tenants, synced from Clerk first",
        "Somebody creates another organization directly in Clerk. The user's next list asks Clerk what has"
        " changed, and shows it.",
        list_with_sync,
    ),
    (
        "A legacy tenant beside them",
        "A tenant that existed before you used Clerk has no organization there. It keeps working, and the"
        " sync leaves it alone.",
        show_legacy_tenant,
    ),
    (
        "Clerk is down: list",
        "Clerk stops answering. The list is served from the database, and its header says stale.",
        list_while_clerk_is_down,
    ),
    (
        "Clerk is down: create",
        "Creating needs Clerk, so it fails with an error that says so, and no half-made tenant stays behind.",
        create_while_clerk_is_down,
    ),
    (
        "Clerk is back",
        "Clerk now carries out the create that it received while it did not answer. The next list finds that"
        " organization: it exists once, and nothing is lost.",
        adopt_late_organization,
    ),
    (
        "Changes in Clerk arrive by webhook",
        "Clerk calls the server when something changes. A worker applies the change, and lists show it"
        " without asking Clerk.",
        follow_webhooks,
    ),
    (
        "A legacy tenant moves to Clerk",
        "One command creates an organization for a legacy tenant, with all its members.",
        migrate_tenant,
    ),
    (
        "The pages",
        "The pages for people open: the API documentation, the admin, and the page of the local Clerk.",
        open_pages,
    ),
)


def walk(scene: Scene) -> None:
    """Run every step; raise StepFailed with the name of a failed step."""
    for number, (title, explanation, step) in enumerate(STEPS, start=1):
        scene.report.heading(f"{number}. {title}")
        scene.report.line(textwrap.indent(textwrap.fill(explanation, 100), "   "))
        try:
            step(scene)
        except DemoError as failure:
            raise StepFailed(f"Step {number} failed ({title}). {failure}") from failure
        except httpx.HTTPError as error:
            call = f"{error.request.method} {error.request.url}"
            raise StepFailed(f"Step {number} failed ({title}). {call} got no answer: {error}") from error
        except (LookupError, TypeError) as error:
            raise StepFailed(f"Step {number} failed ({title}): an answer lacks {error}.") from error
    scene.report.heading(f"All {len(STEPS)} steps succeeded.")
