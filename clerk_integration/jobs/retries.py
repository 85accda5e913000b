"""When a delivery that failed is tried again."""

from typing import cast

from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

MINUTE = 60
HOUR = 60 * MINUTE

WAITS = (5, 30, 2 * MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 10 * HOUR)
"""Seconds before each further try: eight tries in 14 hours, then the delivery waits for a person."""


class GrowingWaits(BaseRetryStrategy):
    """Try again after the next of WAITS, and no more when there is none left.

    Crashes of a worker do not count: the job that takes a crashed one's place carries the number of
    failures before it as its argument `failures`.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to try again, or None."""
        failures = job.attempts + cast("int", job.task_kwargs.get("failures", 0))
        if failures >= len(WAITS):
            return None
        # A waiting job keeps back the later ones of its lock, so it leaves them for a lock of its own.
        lock = f"job {job.id}" if job.lock else None
        return RetryDecision(retry_in={"seconds": WAITS[failures]}, lock=lock)
