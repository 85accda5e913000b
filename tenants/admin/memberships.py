"""The admin pages of memberships."""

from django.contrib import admin

from clerk_integration.admin.readonly import ReadOnlyAdmin
from tenants.models import Membership


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    """Lists and shows memberships, read-only."""

    list_display = ("clerk_user_id", "tenant", "role", "is_active", "is_primary")
    list_select_related = ("tenant",)
    list_filter = ("is_active", "is_primary")
    search_fields = ("clerk_user_id", "tenant__name", "tenant__clerk_org_id")
    ordering = ("clerk_user_id", "tenant_id")
    fields = (
        "tenant",
        "clerk_user_id",
        "clerk_membership_id",
        "role",
        "is_active",
        "is_primary",
        "clerk_created_at",
        "clerk_updated_at",
        "created_at",
        "written_at",
    )
