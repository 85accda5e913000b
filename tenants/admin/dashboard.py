"""The dashboard: whether the mirror can be trusted, and what staff must do, at a glance.

It runs at most three statements, however many rows there are, and never calls Clerk. A user sees only the
parts that the user may view.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.http import urlencode

from clerk_integration.conf import clerk_settings
from clerk_integration.times import age_of
from tenants.admin.charts import chart
from tenants.admin.pages import render_page
from tenants.models import Tenant
from tenants.monitoring.days import Series, counts_by_day
from tenants.monitoring.overview import Count, TenantNumbers, WorkNumbers, tenant_numbers, work_numbers

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Tenant]
else:
    Base = object

TEMPLATE = "admin/tenants/dashboard.html"

STALE_CHECK = timedelta(minutes=5)
"""Workers check Clerk every minute, so an older result does not describe the present."""

VIEW_TENANTS = "tenants.view_tenant"
VIEW_HISTORY = "tenants.view_tenanthistory"
VIEW_RUNS = "tenants.view_syncrun"
VIEW_CREATIONS = "tenants.view_creationattempt"
VIEW_DELIVERIES = "clerk_integration.view_webhookdelivery"
VIEW_JOBS = "procrastinate.view_procrastinatejob"

CHARTS: dict[Series, tuple[str, str]] = {
    "deliveries": ("Webhooks received", VIEW_DELIVERIES),
    "failures": ("Webhooks that failed", VIEW_DELIVERIES),
    "changes": ("Changes of tenants", VIEW_HISTORY),
}
"""For each chart: its title, and the permission to see it."""

TENANT_LISTS: dict[str, tuple[str, dict[str, str]]] = {
    "total": ("Tenants", {}),
    "linked": ("Linked to Clerk", {"linked": "true"}),
    "legacy": ("Legacy", {"linked": "false"}),
    "suspended": ("Suspended", {"status__exact": "suspended"}),
    "deactivated": ("Deactivated", {"status__exact": "deactivated"}),
    "deleted": ("Deleted in Clerk", {"deleted": "true"}),
    "never_synced": ("Never synced", {"synced": "never"}),
    "out_of_date": ("Not compared with Clerk for a day", {"synced": "day"}),
    "drifted": ("Differed in the last dry run", {"drift": "true"}),
}
"""For each number of tenants: its label, and the filters of the list behind it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its label. `url` is the list behind it; `oldest` is since when the oldest waits."""

    number: Count | int
    label: str
    url: str = ""
    oldest: datetime | None = None
    is_bad: bool = False


class DashboardPage(Base):
    """Add the dashboard as a page of the tenants; `config.admin_site` makes it the index of the admin."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page."""
        page = self.admin_site.admin_view(self.dashboard_view)
        return [path("dashboard/", page, name="tenants_dashboard"), *super().get_urls()]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show the dashboard."""
        return render_page(self, request, TEMPLATE, title="Dashboard", **dashboard(request))


def dashboard(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the template: the parts that the user may view."""
    may = request.user.has_perm
    work = work_numbers() if any(map(may, (VIEW_RUNS, VIEW_CREATIONS, VIEW_DELIVERIES))) else None
    series = [name for name, (_, permission) in CHARTS.items() if may(permission)]
    counts = counts_by_day(series)
    return {
        "tenant_figures": list(_tenant_figures(tenant_numbers())) if may(VIEW_TENANTS) else [],
        "work_figures": list(_work_figures(request, work)) if work else [],
        "connection": _connection(work) if work and may(VIEW_RUNS) else None,
        "charts": [chart(name, CHARTS[name][0], days) for name, days in counts.items()],
        "days": _rows(counts),
    }


def _rows(counts: Mapping[Series, Mapping[date, int]]) -> list[tuple[date, list[int]]]:
    """Return a row for each day: the day, and the number of each series."""
    days = next(iter(counts.values()), {})
    return [(day, [by_day[day] for by_day in counts.values()]) for day in days]


def _connection(work: WorkNumbers) -> dict[str, Any]:
    """Return the variables of the part about Clerk and the syncs."""
    sync, dry_run, clerk = work.last_complete_sync, work.last_dry_run, work.clerk
    return {
        "work": work,
        "check_is_stale": clerk is None or age_of(clerk.checked_at) > STALE_CHECK,
        "sync_url": sync and _page("tenants_syncrun_change", sync.id),
        "sync_is_overdue": sync is not None and age_of(sync.started_at) > clerk_settings.sync_alert_age,
        "dry_run_url": dry_run and _page("tenants_syncrun_change", dry_run.id),
    }


def _tenant_figures(numbers: TenantNumbers) -> Iterator[Figure]:
    for name, (label, filters) in TENANT_LISTS.items():
        yield Figure(getattr(numbers, name), label, _list("tenants_tenant", **filters))


def _work_figures(request: HttpRequest, work: WorkNumbers) -> Iterator[Figure]:
    may = request.user.has_perm
    if may(VIEW_DELIVERIES):
        yield from _delivery_figures(work)
    if may(VIEW_RUNS):
        yield from _run_figures(work, may_view_jobs=may(VIEW_JOBS))
    if may(VIEW_CREATIONS):
        url = _list("tenants_creationattempt", unresolved="true")
        yield Figure(work.unresolved_creations, "Creations without an answer", url)


def _delivery_figures(work: WorkNumbers) -> Iterator[Figure]:
    failed, received = (
        _list("clerk_integration_webhookdelivery", status__exact=status) for status in ("failed", "received")
    )
    yield Figure(work.failed_deliveries, "Failed webhooks", failed, is_bad=work.failed_deliveries.number > 0)
    yield Figure(work.received_deliveries, "Waiting webhooks", received, oldest=work.due_deliveries.oldest)


def _run_figures(work: WorkNumbers, *, may_view_jobs: bool) -> Iterator[Figure]:
    running, failed = (_list("tenants_syncrun", state__exact=state) for state in ("running", "failed"))
    waiting_jobs, failed_jobs = (
        _list("procrastinate_procrastinatejob", **wanted) if may_view_jobs else ""
        for wanted in ({"due": "yes"}, {"status__exact": "failed"})
    )
    yield Figure(work.running_runs, "Running runs", running)
    yield Figure(work.failed_runs, "Failed runs", failed)
    yield Figure(work.live_workers, "Workers alive", is_bad=not work.live_workers)
    yield Figure(work.due_jobs.count, "Waiting jobs", waiting_jobs, oldest=work.due_jobs.oldest)
    yield Figure(work.failed_jobs, "Failed jobs", failed_jobs, is_bad=work.failed_jobs.number > 0)


def _list(model: str, **filters: str) -> str:
    """Return the URL of a list; empty if the admin has no page for the model."""
    url = _page(f"{model}_changelist")
    return f"{url}?{urlencode(filters)}" if url and filters else url


def _page(name: str, *args: object) -> str:
    try:
        return reverse(f"admin:{name}", args=args)
    except NoReverseMatch:
        return ""
