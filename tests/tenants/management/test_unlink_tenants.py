"""`unlink_tenants`: links are undone one by one, and Clerk is not called."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tenants.models import Tenant
from tenants.services import TenantService
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db


@pytest.fixture
def linked(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> Callable[[], Tenant]:
    """Make a tenant that is linked to an organization."""

    def make() -> Tenant:
        organization = sandbox.organization("Acme", sandbox.user()["id"])
        return TenantService.link_to_clerk_org(legacy("Acme"), organization["id"], acting_user=None)

    return make


def unlink(capsys: pytest.CaptureFixture[str], *ids: int) -> dict[str, Any]:
    capsys.readouterr()
    call_command("unlink_tenants", *map(str, ids), "--json")
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_unlink_tenants_makes_legacy_tenants_and_does_not_call_clerk(
    sandbox: SandboxControl, linked: Callable[[], Tenant], capsys: pytest.CaptureFixture[str]
) -> None:
    tenants = [linked() for _ in range(3)]
    sandbox.clear_requests()

    summary = unlink(capsys, *(tenant.pk for tenant in tenants[:2]))

    assert summary == {"unlinked": 2, "not_linked": 0, "failed": 0, "not_tried": 0}
    assert [Tenant.objects.get(pk=tenant.pk).is_legacy for tenant in tenants] == [True, True, False]
    assert sandbox.requests() == []


def test_unlink_tenants_of_a_legacy_tenant_changes_nothing(
    legacy: Callable[..., Tenant], capsys: pytest.CaptureFixture[str]
) -> None:
    tenant = legacy()
    assert unlink(capsys, tenant.pk, tenant.pk)["not_linked"] == 1


def test_unlink_tenants_with_an_unknown_id_names_it_and_changes_nothing(
    linked: Callable[[], Tenant], capsys: pytest.CaptureFixture[str]
) -> None:
    tenant = linked()

    with pytest.raises(CommandError, match="There is no tenant 987654"):
        unlink(capsys, tenant.pk, 987654)

    tenant.refresh_from_db()
    assert not tenant.is_legacy
    assert "987654" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_unlink_tenants_then_link_tenants_restores_the_link(
    linked: Callable[[], Tenant], capsys: pytest.CaptureFixture[str]
) -> None:
    tenant = linked()
    clerk_org_id = str(tenant.clerk_org_id)
    unlink(capsys, tenant.pk)

    assert (
        TenantService.link_to_clerk_org(
            Tenant.objects.get(pk=tenant.pk), clerk_org_id, acting_user=None
        ).clerk_org_id
        == clerk_org_id
    )
    assert Tenant.objects.count() == 1
