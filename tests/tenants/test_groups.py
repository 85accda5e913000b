"""The groups for staff that `migrate` creates."""

import pytest
from django.contrib.auth.models import Group, User

pytestmark = pytest.mark.django_db

CHANGES = ("sync_tenant", "link_tenant", "migrate_tenant", "change_tenant_status", "change_tenant")


@pytest.mark.parametrize(
    ("group", "may"),
    [
        ("Tenant viewers", {"view_tenant"}),
        ("Tenant operators", {"view_tenant", *CHANGES}),
        ("Tenant administrators", {"view_tenant", *CHANGES, "delete_tenant"}),
    ],
)
def test_group_grants_its_permissions(group: str, may: set[str]) -> None:
    user = User.objects.create_user("grace")
    user.groups.add(Group.objects.get(name=group))

    granted = {
        name for name in ("view_tenant", *CHANGES, "delete_tenant") if user.has_perm(f"tenants.{name}")
    }
    assert granted == may
    assert user.has_perm("clerk_integration.view_webhookdelivery")
