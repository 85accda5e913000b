"""The number of requests of each caller."""

from django.db import models


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
