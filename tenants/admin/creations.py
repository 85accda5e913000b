"""The admin pages of creation attempts: which organizations were created, and which are not known."""

from typing import ClassVar

from django.contrib import admin

from tenants.admin.filters import Condition, ConditionFilter
from tenants.admin.pages import StyledAdmin
from tenants.models import CreationAttempt

UNRESOLVED = [CreationAttempt.State.SENT, CreationAttempt.State.UNKNOWN]


class UnresolvedFilter(ConditionFilter):
    """Attempts that Clerk has not answered: it is not known whether the organization was created."""

    title = "answer"
    parameter_name = "unresolved"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "true": ("Without an answer", lambda attempts: attempts.filter(state__in=UNRESOLVED)),
    }


@admin.register(CreationAttempt)
class CreationAttemptAdmin(StyledAdmin):
    """Lists and shows creation attempts, read-only. Workers resolve those without an answer."""

    list_display = ("marker", "clerk_user_id", "state", "sent_at")
    list_filter = (UnresolvedFilter,)
    search_fields = ("clerk_user_id__exact",)
    search_help_text = "A whole user id"
    fields = ("marker", "clerk_user_id", "idempotency_key", "state", "sent_at", "created_at")
