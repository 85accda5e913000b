"""Admin pages of webhook deliveries: list, search and replay."""

import json
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from clerk_integration.admin.pagination import EstimatingPaginator
from clerk_integration.admin.readonly import ReadOnlyAdmin
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.inbox import requeue
from clerk_integration.webhooks.registry import handled_types

REPLAY_AT_ONCE = 1_000
"""Deliveries that one request may enqueue; `manage.py process_clerk_webhooks` processes more."""

OTHER = "other"


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

    The replay action needs the model's change permission.
    """

    # Counting a month of deliveries for every page would be slow.
    show_full_result_count = False
    paginator = EstimatingPaginator
    list_display = (
        "event_type",
        "organization_id",
        "status",
        "attempts",
        "received_at",
        "processed_at",
        "processing_time",
    )
    list_filter = ("status", EventTypeFilter)
    search_fields = ("svix_id__exact", "organization_id__exact")
    ordering = ("-id",)
    actions = ("replay_selected",)
    fields = (
        "svix_id",
        "event_type",
        "organization_id",
        "status",
        "attempts",
        "crashes",
        "due_at",
        "received_at",
        "processed_at",
        "processing_time",
        "pretty_payload",
        "error_text",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        """Defer payloads and tracebacks on the list page."""
        deliveries = super().get_queryset(request)
        is_list = request.resolver_match is not None and "object_id" not in request.resolver_match.kwargs
        return deliveries.defer("payload", "error") if is_list else deliveries

    @admin.display(description="processing time")
    def processing_time(self, delivery: WebhookDelivery) -> timedelta | None:
        """Return the time from arrival to the end of processing, including the time in the queue."""
        if delivery.processed_at is None:
            return None
        return delivery.processed_at - delivery.received_at

    @admin.display(description="payload")
    def pretty_payload(self, delivery: WebhookDelivery) -> SafeString:
        """Return the stored JSON, indented."""
        return _preformatted(json.dumps(delivery.payload, indent=2, ensure_ascii=False))

    @admin.display(description="error")
    def error_text(self, delivery: WebhookDelivery) -> SafeString | None:
        """Return the error and traceback of the last failure; None if no error is stored."""
        return _preformatted(delivery.error) if delivery.error else None

    @admin.action(description="Replay selected", permissions=["operate"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Enqueue the selected deliveries again, whatever their status. Workers process them later."""
        selected = list(queryset.order_by("pk").values_list("pk", flat=True)[: REPLAY_AT_ONCE + 1])
        if len(selected) > REPLAY_AT_ONCE:
            messages.error(
                request,
                f"Nothing was queued: at most {REPLAY_AT_ONCE:,} deliveries can be selected. For more there "
                "is manage.py process_clerk_webhooks.",
            )
            return
        queued = requeue(selected)
        if queued:
            messages.success(request, f"Queued for the workers: {_count(queued)}.")
        if queued < len(selected):
            skipped = _count(len(selected) - queued)
            messages.warning(request, f"Not replayed, because only the envelope is stored: {skipped}.")


def _preformatted(text: str) -> SafeString:
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', text)


def _count(deliveries: int) -> str:
    return "1 delivery" if deliveries == 1 else f"{deliveries} deliveries"
