"""Admin pages of webhook deliveries: list, search, and processing again."""

import json
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import ShowFacets
from django.core.exceptions import PermissionDenied
from django.db.models import Func, QuerySet, Value
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from clerk_integration.admin.pagination import EstimatingPaginator
from clerk_integration.admin.readonly import ReadOnlyAdmin
from clerk_integration.models import WebhookDelivery
from clerk_integration.times import age_of, with_zone
from clerk_integration.webhooks.inbox import requeue
from clerk_integration.webhooks.registry import handled_types

MAX_REASON_LENGTH = 160
"""Characters of an error that the list shows."""

OTHER = "other"

# A traceback ends with its exception.
LAST_LINE = Func(
    "error", Value(r"[^\n]+\n*$"), function="substring", template="%(function)s(%(expressions)s)"
)


class EventTypeFilter(admin.SimpleListFilter):
    """Filter with one choice per event type that has a handler, and `other` for the remaining types.

    Collecting the stored types instead would scan the whole table for every page.
    """

    title = "event type"
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the event types that have a handler, and `other`."""
        return [*((name, name) for name in handled_types()), (OTHER, "other")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]
    ) -> QuerySet[WebhookDelivery]:
        """Keep the deliveries of the chosen type."""
        if self.value() == OTHER:
            return queryset.exclude(event_type__in=handled_types())
        return queryset if self.value() is None else queryset.filter(event_type=self.value())


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    """Read-only pages, because deliveries are the record of Clerk's messages.

    *Process again* needs the model's change permission, which allows nothing else.
    """

    # Counting a month of deliveries for every page would be slow, and so would sorting them.
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    sortable_by = ()
    paginator = EstimatingPaginator
    change_form_template = "admin/clerk_integration/delivery.html"
    list_display = (
        "event",
        "received",
        "status",
        "reason",
        "tries",
        "next_attempt",
        "organization",
    )
    list_filter = ("status", EventTypeFilter)
    search_fields = ("svix_id__exact", "organization_id__exact")
    search_help_text = "A whole message id (msg_…) or organization id (org_…)"
    ordering = ("-id",)
    actions = ("process_again",)
    fields = (
        "message",
        "event",
        "organization",
        "status",
        "attempts",
        "crashes",
        "next_attempt",
        "received_at",
        "processed_at",
        "processing_time",
        "error_text",
        "pretty_payload",
    )

    class Media:
        css: ClassVar = {"all": ["clerk_integration/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        """Defer payloads and tracebacks on the list page, and read only the last line of each error."""
        deliveries: QuerySet[WebhookDelivery] = super().get_queryset(request)
        is_list = request.resolver_match is not None and "object_id" not in request.resolver_match.kwargs
        if not is_list:
            return deliveries
        reason = Left(LAST_LINE, MAX_REASON_LENGTH)
        return deliveries.defer("payload", "error").annotate(last_line=reason)

    def get_urls(self) -> list[URLPattern]:
        """Add the URL of the button."""
        view = self.admin_site.admin_view(self.process_one_again)
        name = "clerk_integration_webhookdelivery_process_again"
        return [path("<int:delivery_id>/process-again/", view, name=name), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the delivery, with the button for users who may press it."""
        context = {"may_process_again": self.has_operate_permission(request), **(extra_context or {})}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    @method_decorator(require_POST)
    def process_one_again(self, request: HttpRequest, delivery_id: int) -> HttpResponse:
        """Let the workers process the delivery again."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        delivery = get_object_or_404(WebhookDelivery.objects.only("pk"), pk=delivery_id)
        self._process_again(request, WebhookDelivery.objects.filter(pk=delivery.pk))
        page = "admin:clerk_integration_webhookdelivery_change"
        return redirect(reverse(page, args=[delivery.pk], current_app=self.admin_site.name))

    @admin.action(description="Process again", permissions=["operate"])
    def process_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Let the workers process the selected deliveries again, whatever their status."""
        self._process_again(request, queryset)

    def _process_again(self, request: HttpRequest, deliveries: QuerySet[WebhookDelivery]) -> None:
        selected = deliveries.count()
        queued = requeue(deliveries)
        if queued:
            messages.success(request, f"Queued for the workers: {_count(queued)}.")
        if queued < selected:
            skipped = _count(selected - queued)
            messages.warning(request, f"Not queued, because only the envelope is stored: {skipped}.")

    @admin.display(description="message id")
    def message(self, delivery: WebhookDelivery) -> SafeString:
        """Return the id of the message, which all its retries have."""
        return _foreign(delivery.svix_id)

    @admin.display(description="event type")
    def event(self, delivery: WebhookDelivery) -> SafeString:
        """Return the type of the event."""
        return _foreign(delivery.event_type)

    @admin.display(description="organization")
    def organization(self, delivery: WebhookDelivery) -> SafeString | str:
        """Return the id of the organization that the event is about."""
        return _foreign(delivery.organization_id) if delivery.organization_id else "-"

    @admin.display(description="received")
    def received(self, delivery: WebhookDelivery) -> SafeString:
        """Return the time of arrival, in one line."""
        local = timezone.localtime(with_zone(delivery.received_at))
        return format_html('<span class="clerk-time">{}</span>', f"{local:%Y-%m-%d %H:%M:%S}")

    @admin.display(description="reason")
    def reason(self, delivery: Any) -> SafeString | str:
        """Return the last line of the last error: what went wrong, without the traceback."""
        return _foreign(delivery.last_line.strip()) if delivery.last_line else "-"

    @admin.display(description="attempts")
    def tries(self, delivery: WebhookDelivery) -> int:
        """Return how often processing began, under a short title."""
        return delivery.attempts

    @admin.display(description="next attempt")
    def next_attempt(self, delivery: WebhookDelivery) -> Any:
        """Return the time of the next attempt, or why there is none."""
        if delivery.claim is not None:
            return "being processed"
        if delivery.status in (WebhookDelivery.Status.PROCESSED, WebhookDelivery.Status.IGNORED):
            return "-"
        if delivery.due_at is None:
            return "none"
        return "now" if age_of(delivery.due_at) >= timedelta(0) else delivery.due_at

    @admin.display(description="processing time")
    def processing_time(self, delivery: WebhookDelivery) -> str:
        """Return the time from arrival to the end of processing, including the time in the queue."""
        if delivery.processed_at is None:
            return "-"
        return str(delivery.processed_at - delivery.received_at)

    @admin.display(description="payload")
    def pretty_payload(self, delivery: WebhookDelivery) -> SafeString:
        """Return the stored JSON, indented."""
        return _preformatted(json.dumps(delivery.payload, indent=2, ensure_ascii=False))

    @admin.display(description="error")
    def error_text(self, delivery: WebhookDelivery) -> SafeString | str:
        """Return the error and traceback of the last failure."""
        return _preformatted(delivery.error) if delivery.error else "-"


def _foreign(text: str) -> SafeString:
    return format_html('<bdi class="clerk-text" dir="auto">{}</bdi>', text)


def _preformatted(text: str) -> SafeString:
    return format_html('<pre class="clerk-pre" dir="auto" tabindex="0">{}</pre>', text)


def _count(deliveries: int) -> str:
    return "1 delivery" if deliveries == 1 else f"{deliveries:,} deliveries"
