"""JSON in and out, in camelCase. Serializers here parse and render; they never write."""

import re
from typing import Any, ClassVar

from rest_framework import serializers

from tenants.models import Tenant

MAX_NAME_LENGTH = 256
"""Clerk's limit for the name of an organization, in characters."""

SLUG_PATTERN = re.compile(r"(?=.*[a-z0-9])[a-z0-9-]+")
"""Clerk's slugs: lower-case letters, digits and dashes, at least one that is no dash."""


class StrictCharField(serializers.CharField):
    """A string that came as a string: a number is no name."""

    def to_internal_value(self, data: Any) -> str:
        """Refuse what DRF would turn into a string."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class SlugField(StrictCharField):
    """A slug as Clerk spells them."""

    default_error_messages: ClassVar = {
        "invalid_slug": "A slug holds lower-case letters, digits and dashes only, and not only dashes."
    }

    def to_internal_value(self, data: Any) -> str:
        """Refuse what Clerk would refuse as malformed."""
        slug = super().to_internal_value(data)
        if not SLUG_PATTERN.fullmatch(slug):
            self.fail("invalid_slug")
        return slug


class TenantCreateSerializer(serializers.Serializer[Any]):
    """Body of a create."""

    name = StrictCharField(max_length=MAX_NAME_LENGTH)
    slug = SlugField(max_length=MAX_NAME_LENGTH, required=False, allow_null=True, default=None)


class TenantListParameters(serializers.Serializer[Any]):
    """Query of the caller's own list."""

    sync_from_clerk = serializers.BooleanField(
        default=True, help_text="Bring the list level with Clerk first, unless it is fresh."
    )
    active_only = serializers.BooleanField(
        default=True, help_text="Leave out inactive tenants that the caller administers."
    )


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    """A tenant, and what it is to the caller (`TenantQuerySet.for_caller`)."""

    clerkOrgId = serializers.CharField(source="clerk_org_id", allow_null=True)
    logoUrl = serializers.CharField(source="logo_url")
    suspensionReason = serializers.CharField(source="suspension_reason")
    clerkMetadata = serializers.DictField(source="clerk_metadata", help_text="Clerk's public metadata.")
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")
    lastSyncedAt = serializers.DateTimeField(source="last_synced_at", allow_null=True)
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


class PrimaryIdSerializer(serializers.Serializer[Any]):
    """The id of the caller's primary tenant."""

    tenantId = serializers.IntegerField(source="tenant_id")
