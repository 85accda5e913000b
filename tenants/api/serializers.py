"""Parse and render JSON in camelCase; these serializers write no rows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.db.models import F
from django.db.models.expressions import OrderBy
from rest_framework import ISO_8601, serializers
from rest_framework.fields import empty

from clerk_integration.naming import MAX_NAME_LENGTH, MAX_SLUG_LENGTH, name_problem, slug_problem
from clerk_integration.times import in_utc
from tenants.api.pagination import PageParameters, PageSerializer
from tenants.models import Membership, Tenant, TenantHistory
from tenants.sql import BEGIN_OF_NAME

MAX_REASON_LENGTH = 1_000

ORDERS: dict[str, Any] = {
    "id": F("id"),
    "name": BEGIN_OF_NAME,
    "createdAt": F("created_at"),
    "updatedAt": F("updated_at"),
}
ORDERINGS = [sign + name for name in ORDERS for sign in ("", "-")]


class StrictCharField(serializers.CharField):
    """Accepts JSON strings only; DRF's own field also accepts numbers."""

    def to_internal_value(self, data: Any) -> str:
        """Return the string; raise ValidationError for any other type."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """Accepts JSON's true and false only; DRF's own field also accepts strings and numbers."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value; fail for any other type."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class NameField(StrictCharField):
    """Accepts a name that Clerk accepts."""

    default_error_messages: ClassVar = {"invalid_name": "The name {problem}."}

    def run_validation(self, data: Any = empty) -> Any:
        """Return the name; raise ValidationError if Clerk would refuse it."""
        name = super().run_validation(data)
        problem = name_problem(name)
        if problem is not None:
            self.fail("invalid_name", problem=problem)
        return name


class SlugField(StrictCharField):
    """Accepts a slug that Clerk accepts."""

    default_error_messages: ClassVar = {"invalid_slug": "The slug {problem}."}

    def to_internal_value(self, data: Any) -> str:
        """Return the slug; raise ValidationError if Clerk would refuse its characters or length."""
        slug = super().to_internal_value(data)
        problem = slug_problem(slug)
        if problem is not None:
            self.fail("invalid_slug", problem=problem)
        return slug


class UtcDateTimeField(serializers.DateTimeField):
    """Renders a time as ISO 8601 in UTC, whatever TIME_ZONE, USE_TZ and DATETIME_FORMAT are."""

    format = ISO_8601

    def enforce_timezone(self, value: datetime) -> datetime:
        """Return the time in UTC; a naive time is in TIME_ZONE."""
        return in_utc(value)


class TenantCreateSerializer(serializers.Serializer[Any]):
    """The body of a create."""

    name = NameField(max_length=MAX_NAME_LENGTH)
    slug = SlugField(max_length=MAX_SLUG_LENGTH, required=False, allow_null=True, default=None)
    makePrimary = StrictBooleanField(
        source="make_primary", default=True, help_text="Make the new tenant the caller's primary."
    )


class TenantChangeSerializer(serializers.Serializer[Any]):
    """The body of a change; fields that are left out stay unchanged."""

    name = NameField(max_length=MAX_NAME_LENGTH, required=False)
    slug = SlugField(max_length=MAX_SLUG_LENGTH, required=False)
    status = serializers.ChoiceField(choices=Tenant.Status.choices, required=False, help_text="Staff only.")
    suspensionReason = StrictCharField(
        source="suspension_reason",
        max_length=MAX_REASON_LENGTH,
        required=False,
        allow_blank=True,
        help_text="Staff only; with the status `suspended`.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a suspension reason without the status `suspended`."""
        if "suspension_reason" in attrs and attrs.get("status") != Tenant.Status.SUSPENDED:
            raise serializers.ValidationError(
                {"suspensionReason": "Send it together with the status `suspended`."}
            )
        return attrs

    @property
    def changes_status(self) -> bool:
        """Whether the body changes the status."""
        return "status" in self.validated_data

    @property
    def staff_permissions(self) -> list[str]:
        """The permissions that staff need for the fields in the body."""
        needed = ["tenants.change_tenant_status"] if self.changes_status else []
        if not self.changes_status or self.validated_data.keys() & {"name", "slug"}:
            needed.append("tenants.change_tenant")
        return needed


class TenantDeletionParameters(serializers.Serializer[Any]):
    """The query parameters of a deletion."""

    deleteClerkOrganization = serializers.BooleanField(
        source="delete_clerk_organization",
        default=False,
        help_text="Delete the organization in Clerk first. Without it, 409 while Clerk has the organization.",
    )


class TenantListParameters(serializers.Serializer[Any]):
    """The query parameters of the caller's list."""

    sync_from_clerk = serializers.BooleanField(
        default=True, help_text="Fetch the caller's memberships from Clerk first, unless they are fresh."
    )
    active_only = serializers.BooleanField(
        default=True, help_text="Omit inactive tenants; false adds those that the caller administers."
    )


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    """A tenant with the caller's role and primary flag (annotated by `TenantQuerySet.visible_to`)."""

    clerkOrgId = serializers.CharField(source="clerk_org_id", allow_null=True)
    logoUrl = serializers.CharField(source="logo_url")
    suspensionReason = serializers.CharField(source="suspension_reason")
    clerkMetadata = serializers.DictField(source="clerk_metadata", help_text="Clerk's public metadata.")
    createdAt = UtcDateTimeField(source="created_at")
    updatedAt = UtcDateTimeField(
        source="updated_at", help_text="The last change of the fields shown here, role and isPrimary aside."
    )
    lastSyncedAt = UtcDateTimeField(source="last_synced_at", allow_null=True)
    role = serializers.CharField(source="caller_role", allow_null=True, default=None)
    isPrimary = serializers.BooleanField(source="caller_is_primary", default=False)

    class Meta:
        model = Tenant
        fields: ClassVar = [
            "id",
            "clerkOrgId",
            "name",
            "slug",
            "logoUrl",
            "status",
            "suspensionReason",
            "clerkMetadata",
            "createdAt",
            "updatedAt",
            "lastSyncedAt",
            "role",
            "isPrimary",
        ]
        read_only_fields: ClassVar = fields


class TenantPageParameters(PageParameters):
    """The query parameters of the list of all visible tenants."""

    search = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=MAX_NAME_LENGTH,
        help_text="Each word must begin a word of the name; or the whole text is the slug or the clerkOrgId.",
    )
    status = serializers.ChoiceField(choices=Tenant.Status.choices, default=None)
    linked = serializers.BooleanField(
        allow_null=True, default=None, help_text="true: with an organization in Clerk; false: legacy tenants."
    )
    clerkOrgId = serializers.CharField(source="clerk_org_id", max_length=255, default=None)
    ordering = serializers.ChoiceField(choices=ORDERINGS, default="id")

    def order(self) -> tuple[OrderBy, OrderBy]:
        """Return the expressions to order by; the id makes the order of the pages certain."""
        wanted = self.validated_data["ordering"]
        descending, name = wanted.startswith("-"), wanted.removeprefix("-")
        return OrderBy(ORDERS[name], descending=descending), OrderBy(F("id"), descending=descending)


class TenantPageSerializer(PageSerializer):
    """A page of tenants."""

    results = TenantSerializer(many=True)


class MemberSerializer(serializers.ModelSerializer[Membership]):
    """A membership, of a current or (`isActive` false) former member."""

    clerkUserId = serializers.CharField(source="clerk_user_id")
    isActive = serializers.BooleanField(source="is_active")
    joinedAt = UtcDateTimeField(source="joined_at")

    class Meta:
        model = Membership
        fields: ClassVar = ["clerkUserId", "role", "isActive", "joinedAt"]
        read_only_fields: ClassVar = fields


class MemberPageSerializer(PageSerializer):
    """A page of memberships."""

    results = MemberSerializer(many=True)


TENANT_FIELDS = tuple((name, str(field.source)) for name, field in TenantSerializer().fields.items())
MEMBER_FIELDS = tuple((name, str(field.source)) for name, field in MemberSerializer().fields.items())
"""The fields of the serializers, for queries whose rows are rendered without model instances."""


class PrimaryIdSerializer(serializers.Serializer[Any]):
    """The id of the caller's primary tenant."""

    tenantId = serializers.IntegerField(source="tenant_id")


class HistorySerializer(serializers.ModelSerializer[TenantHistory]):
    """A change of a tenant or, with `clerkUserId`, of one of its memberships."""

    actor = serializers.CharField(allow_null=True, help_text="A Clerk user id or the name of a staff user.")
    clerkUserId = serializers.CharField(source="clerk_user_id", allow_null=True, help_text="The member.")
    changes = serializers.DictField(
        child=serializers.ListField(), help_text="Maps each changed field to [old, new]."
    )

    class Meta:
        model = TenantHistory
        fields: ClassVar = ["at", "source", "actor", "action", "clerkUserId", "changes"]
        read_only_fields: ClassVar = fields


class HistoryPageSerializer(PageSerializer):
    """A page of changes."""

    results = HistorySerializer(many=True)


CHANGED_FIELDS = {
    "suspension_reason": "suspensionReason",
    "clerk_org_id": "clerkOrgId",
    "deleted_at": "deletedAt",
    "is_active": "isActive",
    "is_primary": "isPrimary",
}
"""The JSON names of changed columns whose names differ."""


def history_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of a row of `HistoryQuerySet.of_tenant`."""
    changes = {CHANGED_FIELDS.get(column, column): pair for column, pair in row["changes"].items()}
    return {
        "at": row["time"],
        "source": row["source"],
        "actor": row["actor"] or None,
        "action": row["action"],
        "clerkUserId": row["clerk_user_id"] or None,
        "changes": changes,
    }
