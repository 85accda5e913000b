"""Tasks of `manage.py procrastinate worker`: process deliveries, rescue jobs, and clean up at night.

Procrastinate renews Django's database connections around each task. Times of day are UTC.
"""

from procrastinate.contrib.django import app
from procrastinate.job_context import JobContext

from clerk_integration.jobs import stalled
from clerk_integration.jobs.queue import MAINTENANCE
from clerk_integration.signals import nightly
from clerk_integration.webhooks import inbox, rescue, retention
from clerk_integration.webhooks.delivery_jobs import PROCESS_DELIVERY, WEBHOOKS, DeliveryRetryStrategy

RESCUE_PRIORITY = 100
"""Deliveries have 0: a rescue never waits behind a backlog."""

KEEP_FAILED_JOBS_HOURS = 30 * 24
"""Age at which a job without success is deleted. A worker deletes successful jobs at once."""

EVERY_TEN_SECONDS = "* * * * * */10"
EVERY_MINUTE = "* * * * *"
AT_3 = "0 3 * * *"
AT_4 = "0 4 * * *"


@app.task(name=PROCESS_DELIVERY, queue=WEBHOOKS, retry=DeliveryRetryStrategy())
def process_webhook_delivery(delivery_id: int, failures: int = 0) -> None:
    """Process a stored delivery. `failures` counts the failures of earlier jobs, for the retry strategy."""
    inbox.process_delivery(delivery_id)


# With the queueing lock, only one rescue waits. With a `lock`, a killed rescue would block all later ones.
@app.periodic(cron=EVERY_TEN_SECONDS)
@app.task(queue=WEBHOOKS, priority=RESCUE_PRIORITY, queueing_lock="rescue_stalled_jobs")
def rescue_stalled_jobs(timestamp: int) -> int:
    """Give the jobs of dead and frozen workers to other workers; return how many."""
    return stalled.rescue_stalled_jobs({PROCESS_DELIVERY: rescue.replace_crashed_job})


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=WEBHOOKS, priority=RESCUE_PRIORITY, queueing_lock="rescue_deliveries")
def rescue_deliveries(timestamp: int) -> None:
    """Add a new job for each delivery whose job is overdue or missing."""
    rescue.replace_overdue_jobs()
    rescue.enqueue_deliveries_without_job()


@app.periodic(cron=AT_3)
@app.task(queue=MAINTENANCE)
def send_nightly(timestamp: int) -> None:
    """Send the signal `nightly` to all receivers; then raise ExceptionGroup if a receiver failed."""
    answers = nightly.send_robust(sender=None)
    if errors := [answer for _, answer in answers if isinstance(answer, Exception)]:
        raise ExceptionGroup("receivers of `nightly` failed", errors)


@app.periodic(cron=AT_4)
@app.task(queue=MAINTENANCE)
def purge_deliveries(timestamp: int) -> int:
    """Delete old processed deliveries; return how many."""
    return sum(retention.purge_deliveries())


@app.periodic(cron=AT_4)
@app.task(queue=MAINTENANCE, pass_context=True)
async def remove_finished_jobs(context: JobContext, timestamp: int) -> None:
    """Delete jobs that ended without success more than 30 days ago."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEEP_FAILED_JOBS_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )
