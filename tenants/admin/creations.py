"""The admin pages of creation attempts: which organizations were created, and which are not known."""

from typing import ClassVar

from django.contrib import admin
from django.utils.safestring import SafeString

from tenants.admin.filters import Condition, ConditionFilter
from tenants.admin.pages import StyledAdmin
from tenants.models import CreationAttempt
from tenants.templatetags.tenants_admin import ago, foreign


class UnresolvedFilter(ConditionFilter):
    """Attempts that Clerk has not answered: it is not known whether the organization was created."""

    title = "answer"
    parameter_name = "unresolved"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "true": (
            "Without an answer",
            lambda attempts: attempts.filter(state__in=CreationAttempt.UNRESOLVED),
        ),
    }


@admin.register(CreationAttempt)
class CreationAttemptAdmin(StyledAdmin):
    """Lists and shows creation attempts, read-only. Workers resolve those without an answer."""

    list_display = ("marker", "caller", "state", "sent")
    list_filter = (UnresolvedFilter,)
    search_fields = ("clerk_user_id__exact",)
    search_help_text = "A whole user id"
    fields = ("marker", "caller", "key", "state", "sent", "created_at")

    @admin.display(description="caller")
    def caller(self, attempt: CreationAttempt) -> SafeString:
        """Return the id of the user who creates the organization, or what creates it."""
        return foreign(attempt.clerk_user_id)

    @admin.display(description="idempotency key")
    def key(self, attempt: CreationAttempt) -> SafeString | str:
        """Return the key that the caller sent."""
        return foreign(attempt.idempotency_key) if attempt.idempotency_key else "-"

    @admin.display(description="sent")
    def sent(self, attempt: CreationAttempt) -> SafeString | str:
        """Return when the request was sent to Clerk."""
        return ago(attempt.sent_at)
