"""Define the models of tenants, memberships, their history, tombstones, creation attempts and runs.

`tenants.mirror` writes the mirrored columns; `tenants.lifecycle` and `tenants.creation` write the
local columns.
"""

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Func, Q
from django.db.models.fields.json import KT
from django.db.models.functions import Now

from tenants.querysets import HistoryQuerySet, MembershipQuerySet, TenantQuerySet
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


class TenantHistory(models.Model):
    """A change of a tenant or of one of its memberships, written by a database trigger.

    `changes` maps a column to [old, new]. `clerk_user_id` is the member; it is empty if the tenant itself was
    changed. History is kept if the tenant is deleted, so `tenant_id` is not a foreign key. See
    `tenants.history`.
    """

    class Source(models.TextChoices):
        API = "api", "API"
        STAFF = "staff"
        WEBHOOK = "webhook"
        SYNC = "sync"
        COMMAND = "command"

    class Action(models.TextChoices):
        CREATED = "created"
        RENAMED = "renamed"
        SUSPENDED = "suspended"
        DEACTIVATED = "deactivated"
        REACTIVATED = "reactivated"
        LINKED = "linked"
        UNLINKED = "unlinked"
        DELETED_IN_CLERK = "deleted_in_clerk", "deleted in Clerk"
        RESTORED = "restored"
        DELETED = "deleted"
        MEMBER_ADDED = "member_added"
        MEMBER_REMOVED = "member_removed"
        ROLE_CHANGED = "role_changed"
        PRIMARY_SET = "primary_set"
        PRIMARY_CLEARED = "primary_cleared"

    at = models.DateTimeField(db_default=Func(function="clock_timestamp"), editable=False)
    source = models.CharField(max_length=16, choices=Source)
    actor = models.CharField("Clerk user id or staff user name", max_length=255, blank=True)
    tenant_id = models.BigIntegerField()
    clerk_user_id = models.CharField("member", max_length=255, blank=True)
    action = models.CharField(max_length=24, choices=Action)
    changes = models.JSONField()

    objects = HistoryQuerySet.as_manager()

    class Meta:
        db_table = "tenant_history"
        verbose_name_plural = "tenant history"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "-id"], name="tenant_history_of_tenant"),
            # For the deletion of old rows; smaller and cheaper to maintain than a B-tree.
            BrinIndex(fields=["at"], autosummarize=True, name="tenant_history_at"),
        ]

    def __str__(self) -> str:
        return f"tenant {self.tenant_id}: {self.get_action_display()}"


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


class Installation(models.Model):
    """The id of this database, carried by its markers in Clerk: one row, inserted by a migration.

    A Clerk instance may serve several databases. A marker with another id belongs to another database.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    identity = models.UUIDField(default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "installation"
        constraints: ClassVar = [models.CheckConstraint(name="installation_only_one", condition=Q(id=1))]

    def __str__(self) -> str:
        return str(self.identity)


class CreationAttempt(models.Model):
    """An attempt to create an organization, committed before the POST to Clerk.

    The organization carries `marker` in its private metadata. If Clerk's reply is lost, a search for the
    marker shows whether the organization was created.
    """

    class State(models.TextChoices):
        SENT = "sent", "sent, not answered yet"
        UNKNOWN = "unknown", "reply lost"
        SUCCEEDED = "succeeded"
        FAILED = "failed", "refused by Clerk, nothing created"

    UNRESOLVED: ClassVar = (State.SENT, State.UNKNOWN)
    """The states in which it is not known whether Clerk has made the organization."""

    marker = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    clerk_user_id = models.CharField("caller", max_length=255)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)
    body_hash = models.CharField(max_length=64)
    state = models.CharField(max_length=16, choices=State, default=State.SENT)
    answer = models.JSONField(null=True, blank=True)
    sent_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "creation_attempts"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["clerk_user_id", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="creation_attempts_once_per_key",
            ),
            models.CheckConstraint(
                name="creation_attempts_state_known",
                condition=Q(state__in=["sent", "unknown", "succeeded", "failed"]),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["sent_at"],
                condition=Q(state__in=["sent", "unknown"]),
                name="creation_attempts_unresolved",
            ),
            models.Index(KT("answer__clerk_org_id"), name="creation_attempts_organization"),
        ]

    def __str__(self) -> str:
        return f"{self.state} creation {self.marker}"


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


class RequestCount(models.Model):
    """The number of a caller's requests to limited endpoints since `began_at`; see `tenants.api.limits`.

    The table is UNLOGGED, so that a count costs no write to disk. A crash of PostgreSQL empties the table.
    """

    key = models.CharField("limit and caller", max_length=300, primary_key=True)
    began_at = models.DateTimeField()
    count = models.PositiveIntegerField()

    class Meta:
        db_table = "request_counts"

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class Alert(models.Model):
    """A problem that lasts: found, then sent to SYNC_ALERT_WEBHOOK_URL, deleted after the all-clear.

    The process that sends a message claims the row until `claimed_until`; see `tenants.monitoring.alerts`.
    """

    kind = models.CharField(max_length=32, primary_key=True)
    message = models.TextField()
    found_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, editable=False)
    claimed_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "tenant_alerts"

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class SyncRun(models.Model):
    """A run of a full sync, a dry run, a migration, an import, a link file or a batch of staff.

    `cursor` holds what the run needs to continue, for example the step of a batch. The process `holder`
    works on the run, with a lease until `lease_expires_at`; see `tenants.runs.leases`.
    """

    class Kind(models.TextChoices):
        FULL_SYNC = "full_sync"
        DRY_RUN = "dry_run"
        MIGRATION = "migration"
        IMPORT = "import"
        LINK = "link"
        BATCH = "batch"

    class State(models.TextChoices):
        RUNNING = "running"
        INTERRUPTED = "interrupted", "stopped before the end, can be resumed"
        COMPLETED = "completed"
        FAILED = "failed"

    kind = models.CharField(max_length=16, choices=Kind)
    state = models.CharField(max_length=16, choices=State, default=State.RUNNING)
    started_by = models.CharField(blank=True, default="", db_default="", editable=False)
    holder = models.CharField("who runs it", max_length=255, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    instance_id = models.CharField("Clerk instance", max_length=255, blank=True, default="")
    cursor = models.JSONField("where to continue", default=dict, blank=True)
    created = models.PositiveIntegerField(default=0)
    updated = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    retired = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "sync_runs"
        verbose_name = "run"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["kind", "-id"], name="sync_runs_latest"),
            models.Index(fields=["state", "-id"], name="sync_runs_by_state"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind"],
                condition=Q(kind="full_sync", state="running"),
                name="sync_runs_one_full_sync_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk}, {self.get_state_display()}"


class SyncRunPage(models.Model):
    """The ids on one page of a full sync's listing; a resumed run does not fetch the page again.

    `total` is the size of the list that Clerk reported with the page; `skipped` is the number of unreadable
    records on the page. A listing that changed while it was read is read again, in the next pass.
    `slice_number` is the page's slice of the pass, 0 if the pass is not divided into slices.
    """

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="pages")
    listing = models.CharField(max_length=16)
    pass_number = models.PositiveSmallIntegerField()
    slice_number = models.PositiveIntegerField(default=0, db_default=0)
    offset = models.PositiveIntegerField()
    total = models.PositiveIntegerField()
    skipped = models.PositiveIntegerField()
    ids = ArrayField(models.CharField(max_length=255))

    class Meta:
        db_table = "sync_run_pages"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "listing", "pass_number", "slice_number", "offset"],
                name="sync_run_pages_once_per_offset",
            )
        ]

    def __str__(self) -> str:
        return f"{self.listing} from {self.offset} of run {self.run_id}"

    @property
    def end(self) -> int:
        """The offset of the first record after the page."""
        return self.offset + len(self.ids) + self.skipped


class SyncRunSlice(models.Model):
    """A slice of a run's work: `arguments` describes the work; `closed_at` is set when it is done.

    `broken` is true if the slice is part of a listing and its pages are not contiguous. `outcomes` maps the
    id of an item to its outcome: `result`, and `problem`, a line for the operator (in a batch: `reason`).
    See `tenants.runs.slices`.
    """

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="slices")
    part = models.CharField(max_length=16)
    number = models.PositiveIntegerField()
    arguments = models.JSONField(default=dict, db_default={}, blank=True)
    broken = models.BooleanField(default=False)
    outcomes = models.JSONField(default=dict, blank=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sync_run_slices"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "part", "number"], name="sync_run_slices_once_per_number")
        ]

    def __str__(self) -> str:
        return f"slice {self.number} of the {self.part} of run {self.run_id}"
