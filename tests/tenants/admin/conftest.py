"""Staff who use the admin, and the messages that its pages show."""

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils.html import conditional_escape, strip_tags

from tenants.models import Tenant

CHANGELIST = "/admin/tenants/tenant/"


class Staff:
    """A staff user with the named permissions, or in the named group, signed in to the admin."""

    def __init__(self, *permissions: str, group: str = "") -> None:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        user.groups.set(Group.objects.filter(name=group))
        self.http = Client()
        self.http.force_login(user)

    def get(self, path: str = CHANGELIST) -> Any:
        return self.http.get(path)

    def select(self, action: str, *tenants: Tenant, query: str = "", **fields: Any) -> Any:
        """Run an action on the selected rows of the list, which leads to the confirmation page."""
        selected = [tenant.pk for tenant in tenants]
        form = {"action": action, "_selected_action": selected, "index": 0, **fields}
        return self.http.post(f"{CHANGELIST}{query}", form)

    def run(self, action: str, *tenants: Tenant, **entered: Any) -> Any:
        """Run an action on the selected rows of the list, and confirm it."""
        return self.http.post(self.select(action, *tenants)["Location"], entered)

    def do(self, action: str, tenant: Tenant, **entered: Any) -> Any:
        """Confirm an action on the page of one tenant."""
        return self.http.post(do_url(action, tenant), entered)


def do_url(action: str, tenant: Tenant) -> str:
    return reverse("admin:tenants_tenant_do", args=[tenant.pk, action])


def shown_messages(response: Any) -> list[tuple[str, str]]:
    """Return level and text, without markup, of each message of the request."""
    shown = get_messages(response.wsgi_request)
    return [
        (message.level_tag, unescape(strip_tags(conditional_escape(message.message)))) for message in shown
    ]


@pytest.fixture
def operator(db: None) -> Staff:
    """A staff user who may do everything but delete."""
    return Staff(group="Tenant operators")


@pytest.fixture
def viewer(db: None) -> Staff:
    """A staff user who may only look."""
    return Staff(group="Tenant viewers")


@pytest.fixture
def administrator(db: None) -> Staff:
    """A staff user who may do everything."""
    return Staff(group="Tenant administrators")


@pytest.fixture
def linked(db: None) -> Callable[..., Tenant]:
    """Make a tenant that mirrors an organization."""

    def make(clerk_org_id: str, name: str = "Acme", **columns: Any) -> Tenant:
        return Tenant.objects.create(clerk_org_id=clerk_org_id, name=name, **columns)

    return make
