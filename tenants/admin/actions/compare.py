"""The page that compares one tenant with its organization in Clerk. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clerk_integration.conf import PAGE_SIZE, clerk_settings
from clerk_integration.entities import ClerkMembership
from clerk_integration.exceptions import ClerkError, ClerkNotFound
from clerk_integration.organizations import get_clerk_org, get_clerk_org_memberships_page
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.pages import ClerkPage
from tenants.admin.actions.buttons import action_url, may
from tenants.admin.actions.failures import explain
from tenants.admin.actions.values import field_rows
from tenants.admin.actions.wording import named
from tenants.admin.pages import render_page
from tenants.batches.steps import STEPS
from tenants.creation.instances import require_own_instance
from tenants.exceptions import TenantError
from tenants.mirror import writer
from tenants.models import Membership, Tenant
from tenants.reconcile.differences import Difference, compare_organization

TEMPLATE = "admin/tenants/actions/compare.html"


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member here and in Clerk. `difference` says what a sync would do; it is empty if the two agree."""

    user_id: str
    here: str
    in_clerk: str
    difference: str


def compare_page(model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Show each mirrored column and the members of one page, here and in Clerk now. Calls Clerk."""
    if tenant.clerk_org_id is None:
        messages.error(request, named(tenant, "is not linked to Clerk."))
        return redirect("admin:tenants_tenant_change", tenant.pk)
    page = request.GET.get("page", "")
    number = int(page) if page.isascii() and page.isdecimal() and len(page) < 7 and int(page) else 1  # noqa: PLR2004
    return render_page(
        model_admin,
        request,
        TEMPLATE,
        title=f"Compare “{tenant}” with Clerk",
        original=tenant,
        tenant=tenant,
        number=number,
        sync_url=_url(request, tenant, "sync"),
        restore_url=_url(request, tenant, "restore"),
        **_comparison(tenant, tenant.clerk_org_id, number),
    )


def _url(request: HttpRequest, tenant: Tenant, key: str) -> str:
    """Return the URL of a step that the user may use and that applies to the tenant, else ""."""
    step = STEPS[key]
    usable = may(request, step.permission) and not step.why_not(tenant)
    return action_url(tenant, key) if usable else ""


def _comparison(tenant: Tenant, clerk_org_id: str, number: int) -> Mapping[str, Any]:
    as_of = writer.clock()
    try:
        with clerk_deadline(clerk_settings.timeout_seconds):
            require_own_instance()
            organization = get_clerk_org(clerk_org_id)
            members = get_clerk_org_memberships_page(clerk_org_id, (number - 1) * PAGE_SIZE)
    except ClerkNotFound:
        return {"missing_from_clerk": True}
    except (TenantError, ClerkError) as error:
        return {"error": explain(error)}
    differences = compare_organization(organization, members, as_of=as_of)
    rows = sorted(_member_rows(tenant, members, differences), key=lambda row: not row.difference)
    active = Membership.objects.filter(tenant=tenant, is_active=True)
    return {
        "fields": field_rows(tenant, organization),
        "members": rows,
        "differences": len(differences),
        "stale": not differences
        and tenant.deleted_at is None
        and any(row.differs for row in field_rows(tenant, organization)),
        "total": members.total,
        "number_here": active.exclude(clerk_membership_id=None).count(),
        "local_only": active.filter(clerk_membership_id=None).count(),
        "skipped": members.skipped,
        "pages": -(-members.total // PAGE_SIZE),
        "page_size": PAGE_SIZE,
    }


def _member_rows(
    tenant: Tenant, page: ClerkPage[ClerkMembership], differences: Sequence[Difference]
) -> Iterator[MemberRow]:
    """Yield a row for each member that Clerk has listed, and for each member here that Clerk lacks."""
    by_id = {one.clerk_id: one for one in differences if one.kind == "membership"}
    users = [member.user_id for member in page.records]
    here = {
        row.clerk_user_id: row for row in Membership.objects.filter(tenant=tenant, clerk_user_id__in=users)
    }
    for member in page.records:
        row = here.get(member.user_id)
        yield MemberRow(member.user_id, _here(row), member.role, _text_of(by_id.get(member.id), row))
    missing = [one.clerk_id for one in by_id.values() if one.what == "missing from Clerk"]
    for row in Membership.objects.filter(tenant=tenant, clerk_membership_id__in=missing).order_by("pk"):
        yield MemberRow(row.clerk_user_id, _here(row), "not a member", "ends: missing from Clerk")


def _here(row: Membership | None) -> str:
    if row is None:
        return "not a member"
    return row.role if row.is_active else f"{row.role}, ended"


def _text_of(difference: Difference | None, row: Membership | None) -> str:
    if difference is None:
        return ""
    if row is None:
        return "is added: missing here"
    if not row.is_active:
        return "becomes active again"
    if "role" in difference.changes:
        return "changes the role"
    return "changes the id or times"
