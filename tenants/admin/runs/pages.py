"""The list of runs, and the page of one run: progress, outcomes, report, cancel and resume."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from clerk_integration.admin.pagination import EstimatingPaginator
from clerk_integration.admin.readonly import ReadOnlyAdmin
from clerk_integration.exceptions import ClerkError
from tenants.admin.actions.failures import add_failure
from tenants.admin.pages import render_page
from tenants.admin.runs.access import PERMISSIONS, may_control
from tenants.admin.runs.report import REPORT_COLUMNS, report_rows, result_choices, table_rows
from tenants.admin.runs.starting import STARTERS, Starter
from tenants.admin.spreadsheets import csv_response
from tenants.batches import control
from tenants.batches.descriptions import counts_of, duration_of, short_counts_of, starter_of, title_of
from tenants.exceptions import SyncError, TenantError
from tenants.models import SyncRun
from tenants.monitoring.numbers import live_workers
from tenants.querysets import MAX_ID_DIGITS
from tenants.runs import outcomes
from tenants.runs.progress import read_progress
from tenants.runs.records import is_for_workers
from tenants.templatetags.tenants_admin import ago, badge, foreign

State = SyncRun.State

BADGES = {State.RUNNING: "info", State.COMPLETED: "good", State.INTERRUPTED: "warning", State.FAILED: "bad"}

ALL = "all"
"""The value of the filter by result for all outcomes; "" stands for items that are not tried yet."""

MAX_ERROR = 4_000
"""Characters of a run's error on its page."""


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    """Lists and shows runs; starts, cancels and resumes them."""

    list_display = ("title", "state_badge", "starter", "started", "duration", "counts")
    list_filter = ("kind", "state")
    ordering = ("-id",)
    show_full_result_count = False
    paginator = EstimatingPaginator
    actions = None

    @admin.display(description="run")
    def title(self, run: SyncRun) -> str:
        """Return the number and the title of the run."""
        return f"{run.pk}: {title_of(run)}"

    @admin.display(description="state")
    def state_badge(self, run: SyncRun) -> SafeString:
        """Return the state as a badge."""
        return badge(run.state, BADGES[State(run.state)])

    @admin.display(description="started by")
    def starter(self, run: SyncRun) -> SafeString:
        """Return who started the run."""
        return foreign(starter_of(run))

    @admin.display(description="started")
    def started(self, run: SyncRun) -> str | SafeString:
        """Return how long ago the run was started."""
        return ago(run.started_at)

    @admin.display(description="duration")
    def duration(self, run: SyncRun) -> str:
        """Return how long the run took, or has taken so far."""
        return str(duration_of(run))

    @admin.display(description="counts")
    def counts(self, run: SyncRun) -> str:
        """Return the counts that are not zero."""
        return short_counts_of(run) or "nothing yet"

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of a run. Starting a run calls Clerk, so ATOMIC_REQUESTS must not wrap it."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:run_id>/progress/", wrap(self.progress_view), name="tenants_syncrun_progress"),
            path("<int:run_id>/report.csv", wrap(self.report_view), name="tenants_syncrun_report"),
            path("<int:run_id>/cancel/", wrap(require_POST(self.cancel_view)), name="tenants_syncrun_cancel"),
            path("<int:run_id>/resume/", wrap(require_POST(self.resume_view)), name="tenants_syncrun_resume"),
            path(
                "start/<slug:kind>/",
                transaction.non_atomic_requests(wrap(self.start_view)),
                name="tenants_syncrun_start",
            ),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with the buttons that the user may use."""
        buttons = [
            (starter.label, reverse("admin:tenants_syncrun_start", args=[kind]))
            for kind, starter in STARTERS.items()
            if request.user.has_perm(PERMISSIONS[starter.kind])
        ]
        context = {**(extra_context or {}), "buttons": buttons, "workers": live_workers()}
        response: HttpResponse = super().changelist_view(request, context)
        return response

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one run: progress, counts, error, and a page of the outcomes."""
        run = self._run(request, object_id)
        given, after = request.GET.get("result", ALL), request.GET.get("after", outcomes.START)
        result = given if given in dict(result_choices(run)) else None
        found, following = outcomes.read_page(run, result=result, after=after)
        may = may_control(request, run)
        return render_page(
            self,
            request,
            "admin/tenants/syncrun/run.html",
            title=f"Run {run.pk}: {title_of(run)}",
            run=run,
            state=self.state_badge(run),
            starter=starter_of(run),
            counts={label: f"{number:,}" for label, number in counts_of(run).items()},
            progress=progress_of(run),
            error=run.error[:MAX_ERROR],
            error_is_cut=len(run.error) > MAX_ERROR,
            rows=table_rows(run, found, named=request.user.has_perm("tenants.view_tenant")),
            has_outcomes=bool(found) or result is not None or after != outcomes.START,
            results=result_choices(run),
            result=result,
            all_results=ALL,
            following=following,
            is_first=after == outcomes.START,
            may_cancel=may and run.state == State.RUNNING,
            may_resume=may and control.can_resume(run),
            no_worker=is_for_workers(run) and not live_workers(),
        )

    def progress_view(self, request: HttpRequest, run_id: int) -> JsonResponse:
        """Return the progress of the run for `admin.js`."""
        return JsonResponse(progress_of(self._run(request, run_id)))

    def report_view(self, request: HttpRequest, run_id: int) -> StreamingHttpResponse:
        """Send the outcomes of all items as CSV, whatever their number."""
        run = self._run(request, run_id)
        return csv_response(f"run-{run.pk}.csv", REPORT_COLUMNS, report_rows(run))

    def cancel_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Cancel the run."""
        run = self._controlled(request, run_id)
        if control.cancel(run, acting_user=request.user):
            messages.success(request, f"Run {run.pk} stops after its current item. What was done is kept.")
        else:
            messages.info(request, f"Run {run.pk} had ended already. Nothing was changed.")
        return redirect("admin:tenants_syncrun_change", run.pk)

    def resume_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Let workers try the items that are left or have failed."""
        run = self._controlled(request, run_id)
        if control.resume(run, acting_user=request.user):
            messages.success(request, f"Run {run.pk} continues with the items that are left or have failed.")
        else:
            messages.info(request, f"Run {run.pk} is running, or nothing is left. Nothing was changed.")
        return redirect("admin:tenants_syncrun_change", run.pk)

    def start_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """Ask, then start a run of the kind."""
        starter = STARTERS.get(kind)
        if starter is None:
            raise Http404(f"Runs of the kind {kind} cannot be started here.")
        if not request.user.has_perm(PERMISSIONS[starter.kind]):
            raise PermissionDenied
        form = starter.form(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            response = self._start(request, starter, form)
            if response is not None:
                return response
        return render_page(
            self,
            request,
            "admin/tenants/syncrun/start.html",
            title=starter.label,
            starter=starter,
            form=form,
            workers=live_workers(),
        )

    def _start(self, request: HttpRequest, starter: Starter, form: Any) -> HttpResponse | None:
        """Start the run and return the response; return None after a failure, which the form then names."""
        try:
            run = starter.start(request.user.get_username(), **form.options())
        except SyncError as error:
            form.add_error(None, str(error))
            return None
        except (ClerkError, TenantError) as error:
            add_failure(form, error)
            return None
        if run is None:
            messages.success(request, "The run is queued. It appears in this list when a worker begins it.")
            return redirect("admin:tenants_syncrun_changelist")
        return redirect("admin:tenants_syncrun_change", run.pk)

    def _run(self, request: HttpRequest, run_id: object) -> SyncRun:
        """Return the run for a user who may look at runs; raise Http404 and PermissionDenied."""
        text = str(run_id)
        if not text.isdecimal() or len(text) > MAX_ID_DIGITS:
            raise Http404
        run = get_object_or_404(SyncRun, pk=run_id)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        return run

    def _controlled(self, request: HttpRequest, run_id: int) -> SyncRun:
        run = self._run(request, run_id)
        if not may_control(request, run):
            raise PermissionDenied
        return run


def progress_of(run: SyncRun) -> dict[str, Any]:
    """Return the progress in the form that `admin.js` expects."""
    reading = read_progress(run)
    total = f" of {reading.total:,}" if reading.total else ""
    fields = {"progress": f"{reading.done:,}{total} {reading.label}", "duration": str(duration_of(run))}
    return {
        "value": reading.done,
        "max": max(reading.total, 1),
        "finished": run.state != State.RUNNING,
        "fields": {**fields, **{label: f"{number:,}" for label, number in counts_of(run).items()}},
    }
