"""The admin pages of memberships."""

from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.admin.filters import ActiveFilter
from tenants.admin.pages import StyledAdmin
from tenants.models import Membership
from tenants.querysets import MembershipQuerySet
from tenants.templatetags.tenants_admin import active_badge, ago, badge, foreign, from_clerk


@admin.register(Membership)
class MembershipAdmin(StyledAdmin):
    """Lists and shows memberships, read-only."""

    list_display = ("user", "shown_tenant", "shown_role", "joined", "state", "is_primary_tenant")
    list_select_related = ("tenant",)
    list_filter = (ActiveFilter,)
    search_fields = ("clerk_user_id",)  # Shows the search field; `get_search_results` decides what it finds.
    search_help_text = "User id, membership id or tenant"
    fields = (
        "shown_tenant",
        "user",
        "clerk_membership_id",
        "shown_role",
        "state",
        "is_primary_tenant",
        "joined",
        "changed_in_clerk",
        "written",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Annotate when each membership began, and whether its tenant is the user's primary."""
        memberships = cast("MembershipQuerySet", super().get_queryset(request))
        return memberships.with_joined_at().with_primary()

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Membership], bool]:
        """Return the memberships that the indexes find; see `MembershipQuerySet.found_by_staff`."""
        text = search_term.strip()
        return (queryset.found_by_staff(text) if text else queryset), False

    @admin.display(description="user")
    def user(self, membership: Membership) -> SafeString:
        """Return the id of the Clerk user."""
        return foreign(membership.clerk_user_id)

    @admin.display(description="tenant")
    def shown_tenant(self, membership: Membership) -> SafeString:
        """Return the tenant, with a link to its page."""
        page = reverse("admin:tenants_tenant_change", args=[membership.tenant_id])
        return format_html('<a href="{}">{}</a>', page, foreign(membership.tenant))

    @admin.display(description="role")
    def shown_role(self, membership: Membership) -> SafeString:
        """Return the role."""
        return foreign(membership.role)

    @admin.display(description="joined")
    def joined(self, membership: Any) -> str:
        """Return when the membership began."""
        return ago(membership.joined_at)

    @admin.display(description="state")
    def state(self, membership: Membership) -> SafeString:
        """Return whether the membership is active or has ended, as a badge."""
        return active_badge(membership)

    @admin.display(description="primary", empty_value="-")
    def is_primary_tenant(self, membership: Any) -> SafeString | None:
        """Return a badge if the tenant is the user's primary, as the API answers it."""
        return badge("Primary", "info") if membership.is_users_primary else None

    @admin.display(description="updated in Clerk")
    def changed_in_clerk(self, membership: Membership) -> str:
        """Return Clerk's time of the last change."""
        return ago(from_clerk(membership.clerk_updated_at), "-")

    @admin.display(description="last written here")
    def written(self, membership: Membership) -> str:
        """Return the time of the last write."""
        return ago(membership.written_at)
