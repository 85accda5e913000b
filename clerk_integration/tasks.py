"""The jobs of `manage.py procrastinate worker`: deliveries, what keeps them from getting lost, upkeep.

Procrastinate renews Django's connections around each of them. The times of night are UTC.
"""

from procrastinate.contrib.django import app
from procrastinate.job_context import JobContext

from clerk_integration.jobs import rescue
from clerk_integration.jobs.queue import MAINTENANCE, PROCESS_DELIVERY, WEBHOOKS
from clerk_integration.jobs.retries import GrowingWaits
from clerk_integration.signals import nightly
from clerk_integration.webhooks import inbox, retention

RESCUE_PRIORITY = 100
"""Deliveries have 0: no backlog keeps the jobs of a crashed worker waiting."""

KEEP_JOBS_HOURS = 30 * 24
"""Jobs that did not succeed; a worker deletes the others when they end."""

EVERY_TEN_SECONDS = "* * * * * */10"
EVERY_MINUTE = "* * * * *"
AT_3 = "0 3 * * *"
AT_4 = "0 4 * * *"


@app.task(name=PROCESS_DELIVERY, queue=WEBHOOKS, retry=GrowingWaits())
def process_webhook_delivery(delivery_id: int, failures: int = 0) -> None:
    """Process a stored delivery; `failures` counts those of earlier jobs, whose workers crashed.

    Writes and raises what `inbox.process_delivery` does; tried eight times in 14 hours.
    """
    inbox.process_delivery(delivery_id)


# The queueing lock keeps rescues from piling up. A `lock` would let one that was killed stop all later ones.
@app.periodic(cron=EVERY_TEN_SECONDS)
@app.task(queue=WEBHOOKS, priority=RESCUE_PRIORITY, queueing_lock="rescue_stalled_jobs")
def rescue_stalled_jobs(timestamp: int) -> None:
    """Give the jobs of dead and frozen workers to the others."""
    rescue.rescue_stalled_jobs()


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=WEBHOOKS, priority=RESCUE_PRIORITY, queueing_lock="rescue_deliveries")
def rescue_deliveries(timestamp: int) -> None:
    """Give a job to deliveries that have none, or one that is forgotten."""
    rescue.rescue_forgotten_deliveries()
    rescue.enqueue_lost_deliveries()


@app.periodic(cron=AT_3)
@app.task(queue=MAINTENANCE)
def send_nightly(timestamp: int) -> None:
    """Send the signal `nightly`; raise ExceptionGroup when receivers fail, after all were called."""
    answers = nightly.send_robust(sender=None)
    if errors := [answer for _, answer in answers if isinstance(answer, Exception)]:
        raise ExceptionGroup("receivers of `nightly` failed", errors)


@app.periodic(cron=AT_4)
@app.task(queue=MAINTENANCE)
def purge_deliveries(timestamp: int) -> None:
    """Delete deliveries that were processed and are older than `retention.KEEP_FOR`."""
    retention.purge_deliveries()


@app.periodic(cron=AT_4)
@app.task(queue=MAINTENANCE, pass_context=True)
async def remove_finished_jobs(context: JobContext, timestamp: int) -> None:
    """Delete jobs that ended more than 30 days ago."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEEP_JOBS_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )
