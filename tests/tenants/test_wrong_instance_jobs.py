"""Jobs that were enqueued with the right key, and are done by a worker with the key of another instance."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from clerk_integration.exceptions import WrongInstance
from clerk_integration.instance import adopt_instance
from tenants.backfill.plan import make_plan
from tenants.backfill.run import enqueue_migration, migrate_slice
from tenants.models import CreationAttempt, SyncRun, Tenant
from tenants.reconcile import full_sync, resolve_creations
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other_key(sandbox: SandboxControl, settings: Settings) -> Callable[[], str]:
    """Return a function that gives this process the key of another instance, and returns its id."""

    def use() -> str:
        other = sandbox.use_instance("staging")
        settings.CLERK_SECRET_KEY, settings.CLERK_INSTANCE_ID = other["secretKey"], ""
        return str(other["instanceId"])

    return use


@pytest.fixture(params=[1, 3, 9])
def mirrored(request: pytest.FixtureRequest, sandbox: SandboxControl) -> int:
    """Mirror some organizations; return how many."""
    for number in range(request.param):
        sandbox.organization(f"Ours {number}", sandbox.user()["id"])
    full_sync.run_full_sync()
    return int(request.param)


def active() -> int:
    return Tenant.objects.filter(status="active", deleted_at=None).count()


def test_slice_of_a_full_sync_mirrors_nothing_and_ends_the_run(
    sandbox: SandboxControl, mirrored: int, other_key: Callable[[], str]
) -> None:
    run = full_sync.enqueue_full_sync()
    other_key()
    sandbox.api("POST", "/organizations", {"name": "Theirs"})

    with pytest.raises(WrongInstance, match="Nothing was changed"):
        full_sync.sync_slice(run.pk, "organizations", 0)

    run.refresh_from_db()
    assert (active(), Tenant.objects.count(), run.state) == (mirrored, mirrored, SyncRun.State.FAILED)


def test_conclusion_of_a_full_sync_retires_nothing(mirrored: int, other_key: Callable[[], str]) -> None:
    run = full_sync.enqueue_full_sync()
    other_key()

    with pytest.raises(WrongInstance):
        full_sync.conclude_listing(run.pk, "organizations")

    assert active() == mirrored


def test_full_sync_of_an_instance_that_is_not_ours_any_more_ends(
    mirrored: int, other_key: Callable[[], str]
) -> None:
    run = full_sync.enqueue_full_sync()
    adopt_instance(other_key())

    with pytest.raises(WrongInstance, match="Start another full sync"):
        full_sync.sync_slice(run.pk, "organizations", 0)
    full_sync.conclude_listing(run.pk, "organizations")  # The run has ended: nothing to do.

    run.refresh_from_db()
    assert (active(), run.state) == (mirrored, SyncRun.State.FAILED)


def test_slice_of_a_migration_creates_nothing_and_is_done_with_the_right_key(
    sandbox: SandboxControl, settings: Settings, legacy: Callable[..., Tenant], other_key: Callable[[], str]
) -> None:
    owner = sandbox.user()["id"]
    tenants = [legacy(f"Acme {number}", {owner: "owner"}) for number in range(3)]
    run = enqueue_migration(make_plan(), report=lambda outcome: None)
    right = settings.CLERK_SECRET_KEY
    other_key()
    sandbox.call("POST", "users", {"id": owner})

    with pytest.raises(WrongInstance):
        migrate_slice(run.pk, "tenants", 0)
    assert sandbox.api("GET", "/organizations")["total_count"] == 0

    sandbox.use_instance("")
    settings.CLERK_SECRET_KEY = right
    migrate_slice(run.pk, "tenants", 0)
    run.refresh_from_db()
    assert (run.state, Tenant.objects.exclude(clerk_org_id=None).count()) == ("completed", len(tenants))


def test_search_for_creations_settles_none(
    sandbox: SandboxControl, mirrored: int, other_key: Callable[[], str]
) -> None:
    attempt = CreationAttempt.objects.create(
        clerk_user_id=sandbox.user()["id"], idempotency_key="k", body_hash="h", state="unknown"
    )
    CreationAttempt.objects.update(sent_at=Now() - timedelta(seconds=70))
    other_key()

    with pytest.raises(WrongInstance):
        resolve_creations()

    attempt.refresh_from_db()
    assert attempt.state == CreationAttempt.State.UNKNOWN
