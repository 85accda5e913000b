"""Models: the inbox of webhooks, refused webhooks, Clerk's instance and state, and the rate of requests."""

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class WebhookDelivery(models.Model):
    """One webhook message from Clerk, stored before it is acknowledged, and the result of its processing.

    All retries of a message have the same `svix_id`. `payload` is the message without private and unsafe
    metadata, except our own marker. If the event type has no handler, `payload` is only the envelope.
    """

    class Status(models.TextChoices):
        RECEIVED = "received"
        PROCESSED = "processed"
        IGNORED = "ignored"
        FAILED = "failed"

    svix_id = models.CharField(max_length=255)
    event_type = models.CharField(max_length=255)
    organization_id = models.CharField(max_length=255, null=True, blank=True)
    payload = models.JSONField(default=dict)
    status = models.CharField(
        max_length=16, choices=Status, default=Status.RECEIVED, db_default=Status.RECEIVED
    )
    attempts = models.PositiveIntegerField("times that processing began", default=0, db_default=0)
    crashes = models.PositiveIntegerField(
        "times that processing took its worker down", default=0, db_default=0
    )
    error = models.TextField("error and traceback", blank=True, default="", db_default="")
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    processed_at = models.DateTimeField(null=True, blank=True, editable=False)
    due_at = models.DateTimeField("next attempt", null=True, blank=True, db_default=Now(), editable=False)
    """The time of the next attempt; None if there is none. With a claim, the time at which it is lost."""
    claim = models.UUIDField(null=True, blank=True, editable=False)
    """The attempt that is processing the delivery."""

    class Meta:
        db_table = "webhook_deliveries"
        verbose_name_plural = "webhook deliveries"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            # Rows arrive in the order of this column, so a small block range index is enough.
            BrinIndex(fields=["received_at"], name="webhook_deliveries_received"),
            models.Index(
                fields=["status", "id"],
                condition=Q(status__in=["received", "failed"]),
                name="webhook_deliveries_open",
            ),
            models.Index(
                fields=["organization_id"],
                condition=Q(organization_id__isnull=False),
                name="webhook_deliveries_org",
            ),
            # The queue: the deliveries that a worker may claim. The others are exceptions; see `recover`.
            models.Index(
                fields=["due_at", "id"],
                condition=Q(status__in=["received", "failed"], claim=None, crashes=0),
                name="webhook_deliveries_due",
            ),
            models.Index(
                fields=["due_at", "id"],
                condition=Q(claim__isnull=False) | Q(crashes__gt=0),
                name="webhook_deliveries_recovery",
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["svix_id"], name="webhook_deliveries_once_per_message"),
            models.CheckConstraint(
                name="webhook_deliveries_status_known",
                condition=Q(status__in=["received", "processed", "ignored", "failed"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.svix_id}"


class WebhookRefusal(models.Model):
    """Refused webhooks, one row per reason: their number and the time of the last one."""

    code = models.CharField(primary_key=True, max_length=64)
    reason = models.TextField("reason of the last refusal", default="", db_default="")
    count = models.PositiveBigIntegerField(default=0, db_default=0)
    last_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "webhook_refusals"

    def __str__(self) -> str:
        return f"{self.code}: {self.count}"


class LearnedInstance(models.Model):
    """The Clerk instance that this database belongs to: at most one row.

    The first successful call to Clerk's API stores the row. `adopted_at` is the time at which an operator
    adopted another instance. Data that is older than `adopted_at` may belong to the previous instance.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    instance_id = models.CharField(max_length=255)
    learned_at = models.DateTimeField(db_default=Now(), editable=False)
    adopted_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "clerk_learned_instance"
        constraints: ClassVar = [
            models.CheckConstraint(name="clerk_learned_instance_only_one", condition=Q(id=1))
        ]

    def __str__(self) -> str:
        return self.instance_id


class ClerkPace(models.Model):
    """The earliest time at which a command or job may send the next request to Clerk: at most one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    next_slot_at = models.DateTimeField()

    class Meta:
        db_table = "clerk_pace"
        constraints: ClassVar = [models.CheckConstraint(name="clerk_pace_only_one", condition=Q(id=1))]

    def __str__(self) -> str:
        return f"next request at {self.next_slot_at}"


class ClerkState(models.Model):
    """The result of the last check whether Clerk answers, made by a worker every minute: at most one row.

    `error` is the reason if Clerk did not answer, else empty. `changed_at` is the time since which Clerk
    answers, or since which it does not.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    checked_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    error = models.TextField("reason", blank=True, default="", db_default="")

    class Meta:
        db_table = "clerk_state"
        constraints: ClassVar = [models.CheckConstraint(name="clerk_state_only_one", condition=Q(id=1))]

    def __str__(self) -> str:
        return self.error or "Clerk answers"
