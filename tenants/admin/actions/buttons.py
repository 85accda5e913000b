"""The buttons on the page of one tenant."""

from dataclasses import dataclass
from typing import Literal

from django.http import HttpRequest
from django.urls import reverse

from tenants.models import Tenant

Style = Literal["primary", "default", "danger"]


@dataclass(frozen=True, slots=True)
class Button:
    """A link, styled as a button, to the page that asks for confirmation."""

    label: str
    url: str
    style: Style = "default"


def buttons_for(request: HttpRequest, tenant: Tenant) -> list[Button]:
    """Return a button for each action that the user may use and that applies to the tenant."""
    if not tenant.is_legacy or not may(request, "change_tenant"):
        return []
    return [Button("Link to organization", action_url(tenant, "link"))]


def action_url(tenant: Tenant, action: str) -> str:
    """Return the URL of an action's page for one tenant."""
    return reverse("admin:tenants_tenant_do", args=[tenant.pk, action])


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user is staff with a permission of `tenants`, for example `sync_tenant`."""
    return request.user.is_active and request.user.is_staff and request.user.has_perm(f"tenants.{permission}")
