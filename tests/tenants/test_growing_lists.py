"""Searches through all of Clerk's organizations while new ones are being created."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from tenants.backfill.snapshot import take_snapshot
from tenants.models import CreationAttempt
from tenants.reconcile import resolve_creations
from tests.changing_list import grow_by_one, record, serve_list
from tests.hostile_server import HostileServer, respond

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def growing(settings: Settings) -> Iterator[HostileServer]:
    """A Clerk whose list of 3,000 organizations grows by one with every page."""
    with HostileServer(respond()) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        serve_list(server, [record(number) for number in range(3000)], grow_by_one)
        yield server


def test_take_snapshot_growing_list_is_complete_in_8_calls(growing: HostileServer) -> None:
    snapshot = take_snapshot([])

    assert snapshot.complete
    assert len(growing.requests) <= 8


def test_resolve_creations_growing_list_settles_in_8_calls(growing: HostileServer) -> None:
    attempt = CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="", state="unknown")
    CreationAttempt.objects.update(sent_at=Now() - timedelta(minutes=2))

    assert resolve_creations() == 1

    attempt.refresh_from_db()
    assert attempt.state == CreationAttempt.State.FAILED
    lists = [request for request in growing.requests if request.startswith("GET /v1/organizations?")]
    assert len(lists) <= 8
