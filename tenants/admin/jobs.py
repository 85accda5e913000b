"""The admin pages of the queue's jobs, read-only, in place of Procrastinate's own, which can change jobs."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString

# Importing the module registers Procrastinate's pages, whatever the order of INSTALLED_APPS.
from procrastinate.contrib.django import admin as procrastinate_admin  # noqa: F401
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.admin.pagination import EstimatingPaginator
from clerk_integration.admin.readonly import ReadOnlyAdmin
from tenants.monitoring.numbers import live_workers
from tenants.monitoring.querysets import due_jobs
from tenants.templatetags.tenants_admin import ago, badge

BADGES = {"todo": "neutral", "doing": "info", "succeeded": "good", "failed": "bad", "aborted": "warning"}

ARGUMENTS = ("run_id", "part", "number", "timestamp")
"""Arguments of jobs that are shown. The values of other tasks' arguments may be confidential."""

MAX_ARGUMENTS = 200

admin.site.unregister(ProcrastinateJob)


class DueFilter(admin.SimpleListFilter):
    """Filters by whether a worker may start a job now; other jobs wait for their time, or have begun."""

    title = "waiting"
    parameter_name = "due"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choice of the filter."""
        return [("yes", "May start now")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the jobs that the dashboard counts as waiting."""
        return (
            queryset.filter(pk__in=due_jobs().order_by().values("pk")) if self.value() == "yes" else queryset
        )


@admin.register(ProcrastinateJob)
class JobAdmin(ReadOnlyAdmin):
    """Lists jobs for staff who may look at runs."""

    list_display = ("number", "task_name", "status_badge", "attempts", "arguments", "scheduled", "queue_name")
    list_filter = ("status", DueFilter, "queue_name")
    ordering = ("-id",)
    show_full_result_count = False
    paginator = EstimatingPaginator
    actions = None
    # A job's own page would have all arguments in its title.
    list_display_links = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may look at runs."""
        return request.user.has_perm("tenants.view_syncrun")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may look at runs."""
        return self.has_view_permission(request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with a text that says what is normal."""
        context = {**(extra_context or {}), "workers": live_workers()}
        response: HttpResponse = super().changelist_view(request, context)
        return response

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Redirect to the list."""
        return redirect("admin:procrastinate_procrastinatejob_changelist")

    @admin.display(description="ID", ordering="id")
    def number(self, job: ProcrastinateJob) -> str:
        """Return the id of the job; the admin would write a number with separators."""
        return str(job.pk)

    @admin.display(description="status")
    def status_badge(self, job: ProcrastinateJob) -> SafeString:
        """Return the status as a badge."""
        return badge(job.status, BADGES.get(job.status, "neutral"))

    @admin.display(description="scheduled")
    def scheduled(self, job: ProcrastinateJob) -> str | SafeString:
        """Return when the job may begin: a retry, or a periodic task."""
        return ago(job.scheduled_at, "at once")

    @admin.display(description="arguments")
    def arguments(self, job: ProcrastinateJob) -> SafeString:
        """Return the arguments; only the names of arguments that are not known to be harmless."""
        shown = {name: value if name in ARGUMENTS else "…" for name, value in job.args.items()}
        text = json.dumps(shown, ensure_ascii=False)[:MAX_ARGUMENTS]
        return format_html('<code class="tenants-code">{}</code>', text)
