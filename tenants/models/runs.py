"""The record of long work."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


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
