"""The admin pages of the history of tenants."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.admin.pages import StyledAdmin
from tenants.models import TenantHistory
from tenants.querysets import MAX_ID_DIGITS
from tenants.templatetags.tenants_admin import ago, foreign, origin


@admin.register(TenantHistory)
class TenantHistoryAdmin(StyledAdmin):
    """Lists the changes of tenants, newest first, read-only."""

    list_display = ("time", "tenant", "shown_action", "member", "changed", "by")
    list_display_links = ("time",)
    search_fields = ("tenant_id",)  # Shows the search field; `get_search_results` decides what it finds.
    search_help_text = "Number of a tenant"
    fields = ("time", "tenant", "shown_action", "member", "changed", "by")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TenantHistory], search_term: str
    ) -> tuple[QuerySet[TenantHistory], bool]:
        """Return the changes of the tenant with this number: the history has no other index."""
        text = search_term.strip()
        if not text:
            return queryset, False
        is_number = text.isdecimal() and len(text) <= MAX_ID_DIGITS
        return (queryset.filter(tenant_id=int(text)) if is_number else queryset.none()), False

    @admin.display(description="time")
    def time(self, change: TenantHistory) -> str:
        """Return the time of the change."""
        return ago(change.at)

    @admin.display(description="tenant")
    def tenant(self, change: TenantHistory) -> SafeString:
        """Return the number of the tenant, with a link to its page. The tenant may be deleted."""
        page = reverse("admin:tenants_tenant_change", args=[change.tenant_id])
        return format_html('<a href="{}">tenant {}</a>', page, change.tenant_id)

    @admin.display(description="action")
    def shown_action(self, change: TenantHistory) -> str:
        """Return the action."""
        return change.get_action_display().capitalize()

    @admin.display(description="member", empty_value="-")
    def member(self, change: TenantHistory) -> SafeString | None:
        """Return the member whose membership was changed."""
        return foreign(change.clerk_user_id) if change.clerk_user_id else None

    @admin.display(description="changes", empty_value="-")
    def changed(self, change: TenantHistory) -> str | None:
        """Return each changed column with its old and new value."""
        return render_to_string("admin/tenants/changes.html", {"changes": change.changes}) or None

    @admin.display(description="by")
    def by(self, change: TenantHistory) -> SafeString:
        """Return who made the change, and from where."""
        return origin(change)
