"""The history of tenants and memberships."""

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Func

from tenants.querysets import HistoryQuerySet


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
