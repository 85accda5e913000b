"""The numbers that the dashboard, `/readyz`, `/metrics` and the alerts share."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.jobs import Job
from pytest_django import DjangoAssertNumQueries

from clerk_integration.jobs.queue import queue
from clerk_integration.models import WebhookDelivery, WebhookRefusal
from tenants.models import CreationAttempt, SyncRun
from tenants.monitoring import numbers

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def delivery(svix_id: str, status: str, **fields: object) -> None:
    WebhookDelivery.objects.create(
        svix_id=svix_id, event_type="organization.updated", status=status, **fields
    )


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=60)


def test_numbers_of_an_empty_database_are_zero() -> None:
    nothing = numbers.Waiting(0, 0.0)
    waiting = (
        numbers.due_deliveries,
        numbers.due_jobs,
        numbers.failing_deliveries,
        numbers.unresolved_creations,
    )

    assert [read() for read in waiting] == [nothing] * 4
    assert (numbers.failed_jobs(), numbers.live_workers()) == (0, 0)
    assert (numbers.runs(), numbers.refused_webhooks(), numbers.seconds_since_complete_sync()) == (
        {},
        [],
        None,
    )


def test_due_work_is_counted_with_the_age_of_the_oldest() -> None:
    delivery("msg_due", "received", due_at=Now() - HOUR)
    delivery("msg_retry", "failed", due_at=Now() - HOUR / 2)
    delivery("msg_later", "failed", due_at=Now() + HOUR)
    delivery("msg_done", "processed", due_at=None)
    for name in ("one", "two"):
        queue.defer_job(Job(task_name=name, queue="bulk", priority=0, lock=None, queueing_lock=None))

    assert numbers.due_deliveries() == numbers.Waiting(2, about(3600))
    assert numbers.due_jobs() == numbers.Waiting(2, about(0))


def test_failing_deliveries_are_those_without_a_next_try_or_with_several_failed_tries() -> None:
    delivery("msg_given_up", "failed", due_at=None)
    delivery("msg_old", "failed", due_at=Now() + HOUR)
    delivery("msg_first_failure", "failed", due_at=Now() + HOUR)
    WebhookDelivery.objects.filter(svix_id="msg_old").update(received_at=Now() - HOUR)

    assert numbers.failing_deliveries() == numbers.Waiting(2, about(3600))


def test_refused_webhooks_latest_is_first() -> None:
    WebhookRefusal.objects.create(code="invalid_event", last_at=Now() - HOUR)
    WebhookRefusal.objects.create(code="body_too_large")

    assert [row.code for row in numbers.refused_webhooks()] == ["body_too_large", "invalid_event"]


def test_runs_are_counted_by_kind_and_state_and_a_sync_without_memberships_is_not_complete() -> None:
    kinds = SyncRun.Kind
    for kind, skipped, hours in (
        (kinds.FULL_SYNC, False, 5),
        (kinds.FULL_SYNC, True, 1),
        (kinds.LINK, False, 2),
    ):
        SyncRun.objects.create(
            kind=kind,
            state=SyncRun.State.COMPLETED,
            started_at=Now() - hours * HOUR,
            cursor={"skip_memberships": skipped},
        )

    assert numbers.runs() == {("full_sync", "completed"): 2, ("link", "completed"): 1}
    assert numbers.seconds_since_complete_sync() == about(5 * 3600)


def test_unresolved_creations_are_those_without_an_answer() -> None:
    for state in CreationAttempt.State:
        CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="", state=state)

    assert numbers.unresolved_creations().count == 2


@pytest.mark.parametrize(
    "read",
    [
        numbers.due_deliveries,
        numbers.due_jobs,
        numbers.failed_jobs,
        numbers.live_workers,
        numbers.failing_deliveries,
        numbers.refused_webhooks,
        numbers.unresolved_creations,
        numbers.runs,
        numbers.seconds_since_complete_sync,
    ],
)
def test_each_number_costs_one_statement(
    read: Callable[[], object], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    assert ProcrastinateJob.objects.count() == 0
    with django_assert_num_queries(1):
        read()
