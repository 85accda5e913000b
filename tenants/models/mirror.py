"""The mirror of Clerk: tenants, memberships, what was deleted, and when a user was listed.

`tenants.mirror` writes the mirrored columns; `tenants.lifecycle` writes the local columns.
"""

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tenants.querysets import MembershipQuerySet, TenantQuerySet
from tenants.sql import BEGIN_OF_NAME, NameWords


class Tenant(models.Model):
    """A tenant: the mirror of a Clerk organization, or (`clerk_org_id` NULL) a legacy tenant.

    Mirrored columns are `clerk_org_id`, `name`, `slug`, `logo_url`, `clerk_metadata`,
    `clerk_created_at` and `clerk_updated_at`. The last two are Clerk's times, in milliseconds.
    """

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        DEACTIVATED = "deactivated"

    clerk_org_id = models.CharField(
        "Clerk organization id", max_length=255, null=True, blank=True, unique=True
    )
    # No max_length: input is checked elsewhere, and the mirror must store any name that Clerk returns.
    name = models.CharField()
    slug = models.CharField(null=True, blank=True)
    logo_url = models.CharField("logo URL", blank=True, default="", db_default="")
    clerk_metadata = models.JSONField("public metadata", default=dict, db_default={}, blank=True)
    clerk_created_at = models.BigIntegerField("created in Clerk (ms)", null=True, blank=True)
    clerk_updated_at = models.BigIntegerField("updated in Clerk (ms)", null=True, blank=True)

    external_id = models.CharField(
        "key in an older system", max_length=255, null=True, blank=True, unique=True, editable=False
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE, db_default=Status.ACTIVE)
    suspension_reason = models.TextField(blank=True, default="", db_default="")
    deleted_at = models.DateTimeField("deleted in Clerk", null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    last_synced_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        db_table = "tenants"
        ordering: ClassVar = ["id"]
        # For staff, beside Django's own: view, change (rename) and delete.
        permissions: ClassVar = [
            ("sync_tenant", "Can sync tenants from Clerk"),
            ("link_tenant", "Can link and unlink tenants"),
            ("migrate_tenant", "Can create organizations in Clerk for tenants"),
            ("change_tenant_status", "Can suspend, deactivate and reactivate tenants"),
        ]
        indexes: ClassVar = [
            # Not unique: two organizations can swap slugs in Clerk, and the two changes arrive in any order.
            models.Index(fields=["slug"], name="tenants_slug"),
            GinIndex(NameWords("name"), name="tenants_name_words"),
            # To read a page in the order of the names without sorting all tenants.
            models.Index(BEGIN_OF_NAME, "id", name="tenants_name"),
            # To count these tenants without reading the table, and to estimate large numbers of them.
            models.Index(fields=["id"], condition=Q(clerk_org_id=None), name="tenants_legacy"),
            models.Index(fields=["id"], condition=Q(status="suspended"), name="tenants_suspended"),
            models.Index(fields=["id"], condition=Q(status="deactivated"), name="tenants_deactivated"),
            models.Index(fields=["id"], condition=Q(deleted_at__isnull=False), name="tenants_deleted"),
            models.Index(
                fields=["last_synced_at"],
                condition=Q(clerk_org_id__isnull=False, deleted_at=None),
                name="tenants_last_synced",
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="tenants_status_known",
                condition=Q(status__in=["active", "suspended", "deactivated"]),
            ),
            models.CheckConstraint(
                name="tenants_deleted_is_deactivated",
                condition=Q(deleted_at__isnull=True) | Q(status="deactivated"),
            ),
            models.CheckConstraint(
                name="tenants_clerk_org_id_not_empty",
                condition=Q(clerk_org_id__isnull=True) | ~Q(clerk_org_id=""),
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"tenant {self.pk}"

    @property
    def is_legacy(self) -> bool:
        """Whether the tenant has no organization in Clerk."""
        return self.clerk_org_id is None

    @property
    def is_active(self) -> bool:
        """Whether the tenant is neither suspended nor deactivated."""
        return self.status == self.Status.ACTIVE


class Membership(models.Model):
    """A Clerk user's membership of a tenant.

    A mirrored membership has a `clerk_membership_id`. A local membership has NULL: a member of a legacy
    tenant, or a creator whose membership was not read from Clerk yet. `written_at` is the database's time
    of the last write: a listing does not end a row that was written after the listing began.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    clerk_user_id = models.CharField("Clerk user id", max_length=255)
    clerk_membership_id = models.CharField("Clerk membership id", max_length=255, null=True, blank=True)
    role = models.CharField(max_length=255)
    is_active = models.BooleanField(default=True, db_default=True)
    is_primary = models.BooleanField(default=False, db_default=False)
    clerk_created_at = models.BigIntegerField("created in Clerk (ms)", null=True, blank=True)
    clerk_updated_at = models.BigIntegerField("updated in Clerk (ms)", null=True, blank=True)
    written_at = models.DateTimeField(db_default=Now(), editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        db_table = "memberships"
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["clerk_user_id"], name="memberships_clerk_user_id"),
            # For staff who look for ended memberships: a few among many.
            models.Index(fields=["id"], condition=Q(is_active=False), name="memberships_ended"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "clerk_user_id"], name="memberships_once_per_tenant"),
            models.UniqueConstraint(fields=["clerk_membership_id"], name="memberships_once_per_clerk_id"),
            models.UniqueConstraint(
                fields=["clerk_user_id"],
                condition=Q(is_primary=True),
                name="memberships_one_primary_per_user",
            ),
            models.CheckConstraint(
                name="memberships_user_and_role_not_empty", condition=~Q(clerk_user_id="") & ~Q(role="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.clerk_user_id} in tenant {self.tenant_id}"


class Tombstone(models.Model):
    """The id of a record that was deleted in Clerk; kept even if the tenant's row is deleted.

    Records with this id in events and lists are ignored. An organization is restored if Clerk returns it for
    a GET that was sent at least 60 s after `created_at`; its tenant then gets the status `status_before`.
    """

    class Kind(models.TextChoices):
        ORGANIZATION = "organization"
        MEMBERSHIP = "membership"
        USER = "user"

    class Source(models.TextChoices):
        EVENT = "event", "reported by an event"
        NOT_FOUND = "not_found", "Clerk answered 404 for the id"
        REQUEST = "request", "deleted from here"

    kind = models.CharField(max_length=16, choices=Kind)
    clerk_id = models.CharField(max_length=255)
    source = models.CharField(max_length=16, choices=Source, default=Source.EVENT, db_default=Source.EVENT)
    status_before = models.CharField(
        "status of the tenant before", max_length=16, choices=Tenant.Status, null=True, blank=True
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "tombstones"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "clerk_id"], name="tombstones_once_per_id"),
            models.CheckConstraint(
                name="tombstones_kind_known", condition=Q(kind__in=["organization", "membership", "user"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.clerk_id}"


class UserSync(models.Model):
    """The time of a user's last full listing, and the lease that lets one process at a time list the user."""

    clerk_user_id = models.CharField(max_length=255, primary_key=True)
    synced_at = models.DateTimeField(null=True)
    lease = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "user_syncs"

    def __str__(self) -> str:
        return self.clerk_user_id
