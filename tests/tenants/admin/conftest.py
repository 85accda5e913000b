"""Staff who use the admin, and the messages that its pages show."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from tenants.models import Tenant

CHANGELIST = "/admin/tenants/tenant/"


class Staff:
    """A staff user with the named permissions, signed in to the admin."""

    def __init__(self, *permissions: str) -> None:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        self.http = Client()
        self.http.force_login(user)

    def get(self, path: str = CHANGELIST) -> Any:
        return self.http.get(path)

    def run(self, action: str, *tenants: Tenant) -> Any:
        """Run an action on the selected tenants."""
        selected = [tenant.pk for tenant in tenants]
        return self.http.post(CHANGELIST, {"action": action, "_selected_action": selected, "index": 0})

    def link(self, tenant: Tenant, clerk_org_id: str) -> Any:
        """Submit the page that links a tenant."""
        return self.http.post(link_url(tenant), {"clerk_org_id": clerk_org_id})


def link_url(tenant: Tenant) -> str:
    return reverse("admin:tenants_tenant_do", args=[tenant.pk, "link"])


def shown_messages(response: Any) -> list[tuple[str, str]]:
    """Return level and text of each message of the request."""
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


@pytest.fixture
def operator(db: None) -> Staff:
    """A staff user who may run the actions."""
    return Staff("view_tenant", "change_tenant", "view_membership")


@pytest.fixture
def viewer(db: None) -> Staff:
    """A staff user who may only look."""
    return Staff("view_tenant", "view_membership")


@pytest.fixture
def linked(db: None) -> Callable[..., Tenant]:
    """Make a tenant that mirrors an organization."""

    def make(clerk_org_id: str, name: str = "Acme", **columns: Any) -> Tenant:
        return Tenant.objects.create(clerk_org_id=clerk_org_id, name=name, **columns)

    return make
