"""Find the problems of a deployment in its numbers, with a message for its operators."""

import re
from collections.abc import Iterator
from datetime import timedelta

from django.db.models.functions import Now

from clerk_integration.conf import clerk_settings
from clerk_integration.models import LearnedInstance, WebhookDelivery
from clerk_integration.times import age_of
from tenants.monitoring.numbers import Drift, Numbers

HOUR = timedelta(hours=1)

DRIFT_LIMIT = 10
"""Differences that a dry run may find: Clerk's changes of the last seconds are on their way."""

REFUSED_WITHIN = HOUR

FROM_ANY_SENDER = ("invalid_signature", "body_too_large")
"""Reasons for which requests of any sender are refused, not only those of Clerk."""

MAX_QUOTED = 300
"""Characters of an error that a message quotes."""


def find_problems(numbers: Numbers) -> Iterator[tuple[str, str]]:
    """Yield the kind of each problem, and a message that says what to do."""
    yield from _sync_problems(numbers)
    yield from _webhook_problems(numbers)
    if numbers.drift is not None and numbers.drift.total > DRIFT_LIMIT:
        yield "drift", _drift_message(numbers.drift)
    if not numbers.live_workers:
        jobs, webhooks = numbers.due_jobs.count, numbers.due_deliveries.count
        yield (
            "no_worker",
            f"No worker is running. Waiting jobs: {jobs:,}; waiting webhooks: {webhooks:,}. Nothing is lost."
            " Start `manage.py procrastinate worker`.",
        )


def _drift_message(drift: Drift) -> str:
    kinds = (f"{count:,} {kind.replace('_', ' ')}" for kind, count in drift.differences.items() if count)
    return (
        f"The last dry run found {drift.total:,} differences between the mirror and Clerk:"
        f" {', '.join(kinds)}. Nothing was changed; a full sync removes them. Look for refused and failed"
        " webhooks, and at the endpoint in Clerk's dashboard."
    )


def _sync_problems(numbers: Numbers) -> Iterator[tuple[str, str]]:
    if run := numbers.failed_sync:
        yield (
            "sync_failed",
            f"Full sync {run.pk} failed: {_quoted(run.error)} What it wrote is kept. Remove the cause, then"
            " run `manage.py sync_from_clerk`.",
        )
    limit = clerk_settings.sync_alert_age
    age = numbers.seconds_since_complete_sync
    if age is None:
        age = _seconds_since_instance_is_known()
    if age > limit.total_seconds():
        yield (
            "sync_age",
            f"No full sync was completed in the last {timedelta(seconds=age) / HOUR:.0f} hours;"
            f" SYNC_ALERT_AGE_HOURS is {limit / HOUR:g}. The tenants are served as they were. Run"
            " `manage.py sync_from_clerk`, and check that a worker runs at 03:00 UTC.",
        )


def _webhook_problems(numbers: Numbers) -> Iterator[tuple[str, str]]:
    if count := numbers.failing_deliveries.count:
        yield (
            "deliveries_failing",
            f"{count:,} webhook {'delivery fails' if count == 1 else 'deliveries fail'}. They are kept. Look"
            " at their errors in the admin; when the cause is removed, run"
            " `manage.py process_clerk_webhooks --failed`.",
        )
    recent = [refusal for refusal in numbers.refused_webhooks if age_of(refusal.last_at) <= REFUSED_WITHIN]
    if refused := [
        refusal.code for refusal in recent if not (refusal.code in FROM_ANY_SENDER and _any_stored())
    ]:
        yield (
            "webhooks_refused",
            f"Webhooks were refused in the last hour: {', '.join(refused)}. Clerk repeats them for 28 hours."
            " Run `manage.py check_clerk`; it names the cause.",
        )


def _any_stored() -> bool:
    """Return whether a genuine webhook was stored lately, so that refused ones are probably not Clerk's."""
    return WebhookDelivery.objects.filter(received_at__gte=Now() - REFUSED_WITHIN).exists()


def _seconds_since_instance_is_known() -> float:
    instance = LearnedInstance.objects.first()
    return 0.0 if instance is None else age_of(instance.learned_at).total_seconds()


def _quoted(error: str) -> str:
    """Return the last line of an error, shortened and without control characters, with a full stop."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", (error.strip().splitlines() or ["no error is recorded"])[-1])
    return f"{line[:MAX_QUOTED].rstrip('.')}."
