"""Tasks of `manage.py procrastinate worker`: process deliveries, rescue jobs, check Clerk, clean up.

Procrastinate renews Django's database connections around each task. Times of day are UTC.
"""

from procrastinate.contrib.django import app
from procrastinate.job_context import JobContext

from clerk_integration import reachability
from clerk_integration.jobs import stalled
from clerk_integration.jobs.queue import MAINTENANCE
from clerk_integration.signals import nightly
from clerk_integration.webhooks import drain, recover, retention
from clerk_integration.webhooks.wake_ups import DRAIN, PRIORITY, WEBHOOKS

RESCUE_PRIORITY = 2 * PRIORITY
"""A rescue never waits behind a backlog of deliveries."""

KEEP_FAILED_JOBS_HOURS = 30 * 24
"""Age at which a job without success is deleted. A worker deletes successful jobs at once."""

EVERY_FIVE_SECONDS = "* * * * * */5"
EVERY_TEN_SECONDS = "* * * * * */10"
EVERY_MINUTE = "* * * * *"
AT_3 = "0 3 * * *"
AT_4 = "0 4 * * *"


@app.task(name=DRAIN, queue=WEBHOOKS, priority=PRIORITY, pass_context=True)
def drain_webhooks(context: JobContext, timestamp: int) -> int:
    """Process the deliveries that are due; return how many."""
    # Procrastinate tells a job that its worker is stopping only after `shutdown_graceful_timeout`.
    return drain.drain_all(is_stopping=lambda: getattr(context.app.connector, "is_stopping", False))


# With the queueing lock, only one rescue waits. With a `lock`, a killed rescue would block all later ones.
@app.periodic(cron=EVERY_FIVE_SECONDS)
@app.task(queue=WEBHOOKS, priority=RESCUE_PRIORITY, queueing_lock="recover_webhooks")
def recover_webhooks(timestamp: int) -> int:
    """Recover deliveries whose worker died, and wake the workers for due deliveries; return how many."""
    return recover.recover()


@app.periodic(cron=EVERY_TEN_SECONDS)
@app.task(queue=WEBHOOKS, priority=RESCUE_PRIORITY, queueing_lock="rescue_stalled_jobs")
def rescue_stalled_jobs(timestamp: int) -> int:
    """Give the jobs of dead and frozen workers to other workers; return how many."""
    return stalled.rescue_stalled_jobs()


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="check_clerk")
def check_clerk(timestamp: int) -> None:
    """Check whether Clerk answers, and store the result."""
    reachability.store_reachability()


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
