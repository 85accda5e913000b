"""The buttons on the page of one tenant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from django.http import HttpRequest
from django.urls import reverse

from tenants.batches.steps import STEPS
from tenants.models import Tenant

Style = Literal["primary", "default", "danger"]

STYLES: dict[str, Style] = {"sync": "primary", "create_in_clerk": "primary", "delete": "danger"}

LINK_PERMISSION = "tenants.link_tenant"
COMPARE_PERMISSION = "tenants.sync_tenant"
"""A comparison writes nothing, but it spends requests of Clerk's rate limit."""


@dataclass(frozen=True, slots=True)
class Button:
    """A link, styled as a button, to the page that asks for confirmation."""

    label: str
    url: str
    style: Style = "default"


def buttons_for(request: HttpRequest, tenant: Tenant) -> list[Button]:
    """Return a button for each action that the user may use and that applies to the tenant."""
    return list(_buttons(request, tenant))


def _buttons(request: HttpRequest, tenant: Tenant) -> Iterator[Button]:
    for step in STEPS.values():
        if may(request, step.permission) and not step.why_not(tenant):
            yield Button(step.label, action_url(tenant, step.key), STYLES.get(step.key, "default"))
        if step.key == "sync" and not tenant.is_legacy and may(request, COMPARE_PERMISSION):
            yield Button("Compare with Clerk", reverse("admin:tenants_tenant_compare", args=[tenant.pk]))
        if step.key == "create_in_clerk" and tenant.is_legacy and may(request, LINK_PERMISSION):
            yield Button("Link to organization", action_url(tenant, "link"))


def action_url(tenant: Tenant, action: str) -> str:
    """Return the URL of an action's page for one tenant."""
    return reverse("admin:tenants_tenant_do", args=[tenant.pk, action])


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user is staff with the permission, for example `tenants.sync_tenant`."""
    return request.user.is_active and request.user.is_staff and request.user.has_perm(permission)
