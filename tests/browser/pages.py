"""The address of every admin page, with rows whose texts try to break it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.db import connection
from django.urls import reverse
from django.utils import timezone

from clerk_integration.models import WebhookDelivery
from tenants.models import CreationAttempt, Membership, SyncRun, SyncRunSlice, Tenant, TenantHistory
from tests.browser.site import OPERATORS, staff
from tests.sandbox import SandboxControl
from tests.tenants.admin.actions.conftest import mirrored
from tests.tenants.admin.hostile import SCRIPT, TEXTS

ALL = " ".join(TEXTS)
SECRET = "this is private metadata"
APPS = ("clerk_integration", "procrastinate", "tenants")


@dataclass(frozen=True)
class Rows:
    """The rows that pages show; their names and other texts are hostile."""

    linked: Tenant
    legacy: Tenant
    deleted: Tenant
    membership: Membership
    history: TenantHistory
    attempt: CreationAttempt
    batch: SyncRun
    running: SyncRun
    failed_run: SyncRun
    delivery: WebhookDelivery


def make_rows(clerk: SandboxControl) -> Rows:
    """Make the rows, and one tenant for each text, so that lists show all of them."""
    for number, text in enumerate(TEXTS):
        Tenant.objects.create(name=text, slug=text, clerk_org_id=f"org_hostile{number}")
    linked = mirrored(clerk, "Acme", members=3)
    organization = str(linked.clerk_org_id)
    clerk.patch_record(
        organization, name=f"{ALL} in Clerk", slug="in-clerk", private_metadata={"note": SECRET}
    )
    hostile = {"name": ALL, "slug": ALL, "clerk_metadata": {ALL: [ALL]}, "suspension_reason": ALL}
    Tenant.objects.filter(pk=linked.pk).update(**hostile, status="suspended", external_id=ALL[:255])
    legacy = Tenant.objects.create(name=ALL, slug=ALL)
    deleted = mirrored(clerk, "Gone")
    Tenant.objects.filter(pk=deleted.pk).update(
        name=ALL, status="deactivated", deleted_at=timezone.now(), clerk_org_id="org_gone"
    )
    membership = Membership.objects.create(tenant=legacy, clerk_user_id=ALL[:255], role=ALL[:255])
    Membership.objects.filter(tenant=linked).update(role=ALL[:255])
    history = TenantHistory.objects.filter(tenant_id=linked.pk, clerk_user_id="").order_by("-pk")[0]
    attempt = CreationAttempt.objects.create(
        clerk_user_id=ALL[:255],
        idempotency_key=ALL[:255],
        body_hash="0" * 64,
        state="succeeded",
        answer={"clerk_org_id": organization},
    )
    _add_job()
    return Rows(
        linked=Tenant.objects.get(pk=linked.pk),
        legacy=legacy,
        deleted=Tenant.objects.get(pk=deleted.pk),
        membership=membership,
        history=history,
        attempt=attempt,
        batch=_batch([linked, legacy]),
        running=_batch([linked, legacy], state="running"),
        failed_run=SyncRun.objects.create(
            kind="full_sync", state="failed", error=ALL, started_by=ALL, finished_at=timezone.now()
        ),
        delivery=_deliveries(organization),
    )


def _batch(tenants: list[Tenant], state: str = "completed") -> SyncRun:
    run = SyncRun.objects.create(
        kind="batch",
        state=state,
        started_by=staff(OPERATORS).username,
        updated=1,
        failed=1,
        finished_at=None if state == "running" else timezone.now(),
        lease_expires_at=timezone.now() + timedelta(hours=1),
        cursor={"step": "suspend", "options": {"reason": ALL}, "tenants": len(tenants)},
    )
    outcomes = {
        str(tenants[0].pk): {"result": "done"},
        str(tenants[1].pk): {"result": "failed", "reason": ALL},
    }
    SyncRunSlice.objects.create(
        run=run,
        part="tenants",
        number=0,
        arguments={"ids": [tenant.pk for tenant in tenants]},
        outcomes=outcomes,
        closed_at=timezone.now(),
    )
    return run


def _deliveries(organization: str) -> WebhookDelivery:
    for number, text in enumerate(TEXTS):
        WebhookDelivery.objects.create(
            svix_id=f"msg_{number} {text}"[:255],
            event_type=text[:255],
            organization_id=text[:255],
            status="failed",
            error=f"Traceback:\n  {text}\nValueError: {text}\n",
            attempts=3,
            due_at=None,
        )
    return WebhookDelivery.objects.create(
        svix_id=f"msg {ALL}"[:255],
        event_type=ALL[:255],
        organization_id=organization,
        payload={ALL: {"name": ALL}},
        status="failed",
        error=f"Traceback:\n  {ALL}\nValueError: {ALL}\n",
        attempts=9,
        due_at=None,
    )


def _add_job() -> None:
    """Add a job that no worker takes: it is due in a day."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)"
            " VALUES (%s, %s, jsonb_build_object('run_id', %s::text), now() + interval '1 day')",
            [SCRIPT, ALL[:128], ALL],
        )


def do(tenant: Tenant, action: str, **query: str) -> str:
    return f"{reverse('admin:tenants_tenant_do', args=[tenant.pk, action])}?{urlencode(query)}"


def do_selected(rows: Rows, action: str) -> str:
    ids = f"{rows.linked.pk},{rows.legacy.pk},{rows.deleted.pk}"
    return (
        f"{reverse('admin:tenants_tenant_do_selected', args=[action])}?{urlencode({'ids': ids, 'list': ''})}"
    )


def url_of(name: str, argument: str) -> Callable[[Rows], str]:
    return lambda rows: reverse(f"admin:{name}", args=[argument])


def list_of(name: str, query: str = "") -> Callable[[Rows], str]:
    return lambda rows: reverse(f"admin:{name}_changelist") + query


def change_of(name: str, row: str) -> Callable[[Rows], str]:
    return lambda rows: reverse(f"admin:{name}_change", args=[getattr(rows, row).pk])


PAGES: Mapping[str, Mapping[str, Callable[[Rows], str]]] = {
    "index": {"dashboard": lambda rows: reverse("admin:index")},
    "app_list": {app: url_of("app_list", app) for app in APPS},
    "tenants_dashboard": {"dashboard-page": lambda rows: reverse("admin:tenants_dashboard")},
    "tenants_tenant_changelist": {
        "tenants": list_of("tenants_tenant"),
        "tenants-none": list_of("tenants_tenant", "?q=no+tenant+has+this+name"),
    },
    "tenants_tenant_change": {
        "tenant": change_of("tenants_tenant", "linked"),
        "tenant-legacy": change_of("tenants_tenant", "legacy"),
        "tenant-deleted": change_of("tenants_tenant", "deleted"),
    },
    "tenants_tenant_import": {"import": lambda rows: reverse("admin:tenants_tenant_import")},
    "tenants_tenant_rename": {
        "rename": lambda rows: reverse("admin:tenants_tenant_rename", args=[rows.legacy.pk])
    },
    "tenants_tenant_compare": {
        "compare": lambda rows: reverse("admin:tenants_tenant_compare", args=[rows.linked.pk])
    },
    "tenants_tenant_do": {
        "sync": lambda rows: do(rows.linked, "sync"),
        "suspend": lambda rows: do(rows.linked, "suspend"),
        "delete": lambda rows: do(rows.linked, "delete"),
        "create": lambda rows: do(rows.legacy, "create_in_clerk"),
        "link-search": lambda rows: do(rows.legacy, "link", q="in"),
        "link-preview": lambda rows: do(rows.legacy, "link", organization=str(rows.linked.clerk_org_id)),
    },
    "tenants_tenant_do_selected": {
        "suspend-selected": lambda rows: do_selected(rows, "suspend"),
        "link-selected": lambda rows: do_selected(rows, "link"),
    },
    "tenants_membership_changelist": {"memberships": list_of("tenants_membership")},
    "tenants_membership_change": {"membership": change_of("tenants_membership", "membership")},
    "tenants_tenanthistory_changelist": {"history": list_of("tenants_tenanthistory")},
    "tenants_tenanthistory_change": {"change": change_of("tenants_tenanthistory", "history")},
    "tenants_creationattempt_changelist": {"attempts": list_of("tenants_creationattempt")},
    "tenants_creationattempt_change": {"attempt": change_of("tenants_creationattempt", "attempt")},
    "tenants_syncrun_changelist": {"runs": list_of("tenants_syncrun")},
    "tenants_syncrun_change": {
        "run": change_of("tenants_syncrun", "batch"),
        "run-running": change_of("tenants_syncrun", "running"),
        "run-failed": change_of("tenants_syncrun", "failed_run"),
    },
    "tenants_syncrun_start": {
        f"start-{kind}": url_of("tenants_syncrun_start", kind)
        for kind in ("full_sync", "dry_run", "migration")
    },
    "clerk_integration_webhookdelivery_changelist": {
        "deliveries": list_of("clerk_integration_webhookdelivery")
    },
    "clerk_integration_webhookdelivery_change": {
        "delivery": change_of("clerk_integration_webhookdelivery", "delivery")
    },
    "procrastinate_procrastinatejob_changelist": {"jobs": list_of("procrastinate_procrastinatejob")},
}
"""The pages of each URL of the admin, by the names of their screenshots."""

NO_PAGES = {
    "tenants_syncrun_progress": "JSON",
    "tenants_syncrun_report": "CSV",
    "tenants_tenant_export": "CSV",
    "tenants_syncrun_cancel": "takes a POST and redirects",
    "tenants_syncrun_resume": "takes a POST and redirects",
    "clerk_integration_webhookdelivery_process_again": "takes a POST and redirects",
    "procrastinate_procrastinatejob_change": "redirects to the list",
}

REFUSED = ("_add", "_delete")
"""Ends of the names of Django's own URLs that answer 403, because our pages are read-only."""

DJANGOS = ("_history",)
"""Ends of the names of Django's own URLs that list what staff changed in its forms; we have no such form."""
