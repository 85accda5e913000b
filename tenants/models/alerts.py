"""The problems that operators are alerted to."""

from django.db import models
from django.db.models.functions import Now


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
