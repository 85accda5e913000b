"""The creations of organizations in Clerk, and the id of this database in their markers."""

import uuid
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.db import models, router
from django.db.models import Q
from django.db.models.fields.json import KT
from django.db.models.functions import Now

from tenants.sql import ClockTimestamp


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


RETENTION = timedelta(days=90)
"""The time for which settled attempts, with their idempotency keys, are kept."""


_BEGIN = """
INSERT INTO creation_attempts (marker, clerk_user_id, idempotency_key, body_hash, state, adds_members)
VALUES (%(marker)s, %(clerk_user_id)s, %(idempotency_key)s, %(body_hash)s, 'sent', %(adds_members)s)
ON CONFLICT DO NOTHING RETURNING *
"""
"""Outside of a transaction, the statement commits by itself, in one round trip. Columns that it does not name
need a `db_default`."""


class CreationAttemptQuerySet(models.QuerySet["CreationAttempt"]):
    """What happens to attempts; `tenants.mirror.writer` settles one if an organization carries its marker."""

    def begin(
        self, *, clerk_user_id: str, body_hash: str, idempotency_key: str | None, adds_members: bool = False
    ) -> "CreationAttempt | None":
        """Insert the attempt that must be committed before the POST to Clerk.

        Return None if the user's idempotency key has an attempt already.
        """
        parameters = {
            "marker": uuid.uuid4(),
            "clerk_user_id": clerk_user_id,
            "idempotency_key": idempotency_key,
            "body_hash": body_hash,
            "adds_members": adds_members,
        }
        inserted = self.raw(_BEGIN, parameters, using=router.db_for_write(self.model))
        return next(iter(inserted), None)

    def unresolved(self, *, sent_before: datetime) -> Self:
        """Keep the attempts of which it is not known whether they created an organization."""
        return self.filter(state__in=self.model.UNRESOLVED, sent_at__lt=sent_before)

    def correct_sent_at(self) -> int:
        """Set `sent_at` to now where it lies in the future: the database's clock was set back.

        Otherwise the outcome would stay unknown until the clock has caught up. An attempt counts as sent just
        now, because its age is unknown, and a search soon after the POST proves nothing. Return how many.
        """
        future = self.filter(state__in=self.model.UNRESOLVED, sent_at__gt=ClockTimestamp())
        return future.update(sent_at=ClockTimestamp())

    def delete_old(self) -> int:
        """Delete the attempts that are settled and older than RETENTION; return how many."""
        settled = self.exclude(state__in=self.model.UNRESOLVED)
        return settled.filter(created_at__lt=ClockTimestamp() - RETENTION).delete()[0]


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
    adds_members = models.BooleanField(
        "adds the tenant's members", db_default=True, help_text="For a legacy tenant; otherwise ignored."
    )
    sent_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = CreationAttemptQuerySet.as_manager()

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

    def resume(self, *, adds_members: bool = False) -> bool:
        """Set an attempt that created nothing to `sent`; return False if another process did so first.

        Writes `state`, `sent_at`, `answer` and `adds_members`, if the row is unchanged since it was read.
        """
        unchanged = CreationAttempt.objects.filter(pk=self.pk, state=self.state, sent_at=self.sent_at)
        if not unchanged.update(
            state=self.State.SENT, sent_at=ClockTimestamp(), answer=None, adds_members=adds_members
        ):
            return False
        self.refresh_from_db()
        return True

    def settle(self, state: str, answer: dict[str, Any]) -> None:
        """Record the outcome of the POST: `failed`, `unknown`, or `succeeded` before the tenant is linked."""
        sent = CreationAttempt.objects.filter(pk=self.pk, state=self.State.SENT, sent_at=self.sent_at)
        sent.update(state=state, answer=answer)
