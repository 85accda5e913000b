"""The page of one tenant: its data, members, deliveries, creation attempts and history, and its buttons."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.admin import ModelAdmin
from django.db.models import Q
from django.db.models.fields.json import KT
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from clerk_integration.dashboard_links import organization_page_url
from clerk_integration.models import WebhookDelivery
from tenants.admin.actions import Button, buttons_for
from tenants.admin.pages import render_page
from tenants.backfill.attempts import CALLER, key_for
from tenants.models import CreationAttempt, Membership, Tenant, TenantHistory

TEMPLATE = "admin/tenants/tenant/page.html"

MEMBERS, DELIVERIES, ATTEMPTS, CHANGES = 20, 10, 10, 10
"""Rows shown of each kind; a link leads to all of them."""


def tenant_page(model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Return the page. Call no Clerk; the number of statements does not depend on the number of rows."""
    rename = _rename_button(request, tenant)
    return render_page(
        model_admin,
        request,
        TEMPLATE,
        title=str(tenant),
        original=tenant,
        is_page_of_original=True,
        tenant=tenant,
        logo=logo_of(tenant),
        metadata=tenant.clerk_metadata and json.dumps(tenant.clerk_metadata, indent=2, ensure_ascii=False),
        clerk_url=organization_page_url(tenant.clerk_org_id) if tenant.clerk_org_id else "",
        may_rename=bool(rename),
        buttons=[*rename, *buttons_for(request, tenant)],
        members=_members(request, tenant),
        deliveries=_deliveries(request, tenant),
        attempts=_attempts(request, tenant),
        changes=_changes(request, tenant),
    )


def logo_of(tenant: Tenant) -> str:
    """Return the URL of the logo if a browser may load it: https with a host; else an empty string."""
    try:
        parts = urlsplit(tenant.logo_url)
    except ValueError:
        return ""
    return tenant.logo_url if parts.scheme == "https" and parts.hostname else ""


def _rename_button(request: HttpRequest, tenant: Tenant) -> list[Button]:
    if not tenant.is_active or not request.user.has_perm("tenants.change_tenant"):
        return []
    return [Button("Rename", reverse("admin:tenants_tenant_rename", args=[tenant.pk]))]


def _members(request: HttpRequest, tenant: Tenant) -> dict[str, Any] | None:
    if not request.user.has_perm("tenants.view_membership"):
        return None
    members = Membership.objects.of_tenant(tenant.pk).with_primary()
    return _section(members, MEMBERS, "tenants_membership", tenant__id__exact=tenant.pk)


def _deliveries(request: HttpRequest, tenant: Tenant) -> dict[str, Any] | None:
    if tenant.clerk_org_id is None or not request.user.has_perm("clerk_integration.view_webhookdelivery"):
        return None
    deliveries = WebhookDelivery.objects.filter(organization_id=tenant.clerk_org_id).order_by("-id")
    return _section(
        deliveries.defer("payload"),
        DELIVERIES,
        "clerk_integration_webhookdelivery",
        q=tenant.clerk_org_id,
    )


def _attempts(request: HttpRequest, tenant: Tenant) -> list[CreationAttempt] | None:
    """Return the attempts to create the organization: for the legacy tenant, or by a user."""
    if not request.user.has_perm("tenants.view_creationattempt"):
        return None
    condition = Q(clerk_user_id=CALLER, idempotency_key=key_for(tenant.pk))
    if tenant.clerk_org_id is not None:
        condition |= Q(organization=tenant.clerk_org_id)
    attempts = CreationAttempt.objects.alias(organization=KT("answer__clerk_org_id"))
    return list(attempts.filter(condition).order_by("-id")[:ATTEMPTS])


def _changes(request: HttpRequest, tenant: Tenant) -> dict[str, Any] | None:
    if not request.user.has_perm("tenants.view_tenanthistory"):
        return None
    changes = TenantHistory.objects.filter(tenant_id=tenant.pk).order_by("-id")
    return _section(changes, CHANGES, "tenants_tenanthistory", tenant_id__exact=tenant.pk)


def _section(queryset: Any, size: int, admin_name: str, **query: Any) -> dict[str, Any]:
    """Return the first rows, and the URL of the list of all if there are more."""
    rows = list(queryset[: size + 1])
    url = f"{reverse(f'admin:{admin_name}_changelist')}?{urlencode(query)}"
    return {"rows": rows[:size], "has_more": len(rows) > size, "url": url}
