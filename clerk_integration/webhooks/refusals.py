"""Record refused webhooks, so that `manage.py check_clerk` can report them."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from django.db import Error
from django.db.models import F
from django.db.models.functions import Now

from clerk_integration.models import WebhookRefusal
from clerk_integration.webhooks.exceptions import WebhookError

RECORD_SECONDS = 60.0
"""Minimum time between two writes for one code, so that many forged webhooks cause one write a minute."""


class RefusalRecorder:
    """Count refused webhooks by code; write each count at most every RECORD_SECONDS."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._unwritten: Counter[str] = Counter()
        self._next_write: dict[str, float] = {}

    def record(self, error: WebhookError) -> None:
        """Count a refused webhook; ignore database errors."""
        with self._lock:
            self._unwritten[error.code] += 1
            now = self._clock()
            if now < self._next_write.get(error.code, now):
                return
            self._next_write[error.code] = now + RECORD_SECONDS
            count = self._unwritten.pop(error.code)
        with suppress(Error):
            _write(error.code, str(error), count)


def _write(code: str, reason: str, count: int) -> None:
    refusals = WebhookRefusal.objects.filter(code=code)
    if not refusals.update(count=F("count") + count, reason=reason, last_at=Now()):
        row = WebhookRefusal(code=code, count=count, reason=reason)
        WebhookRefusal.objects.bulk_create([row], ignore_conflicts=True)


recorder = RefusalRecorder()
