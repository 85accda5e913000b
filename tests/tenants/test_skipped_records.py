"""Memberships that cannot be read: the rest of the list is mirrored, and the log names each of them."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from tenants.models import Tenant
from tenants.services import TenantService
from tests.hostile_server import HostileServer, respond
from tests.sandbox import SandboxControl
from tests.specification import STRINGS, ValueMaker
from tests.tenants.conftest import Caller

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

BACKEND = "bapi-2026-05-12.yml"
ORGANIZATION = {"$ref": "#/components/schemas/Organization"}
MEMBERSHIP = {"$ref": "#/components/schemas/OrganizationMembership"}
ANSWERS = 250
"""Answers of each of the two kinds."""

ROLES = ("org:admin", "org:member", "org:a_role_of_tomorrow", "\u202e", "r" * 251)


class RandomClerk(HostileServer):
    """Answers every request with a random valid body, and counts the records that cannot be read."""

    def __init__(self, instance_id: str, seed: int) -> None:
        super().__init__(self._answer)
        self._instance_id = instance_id
        self._maker = ValueMaker(BACKEND, seed)
        self.chance = self._maker.chance
        self.unreadable = 0

    def _answer(self, connection: socket.socket, stopping: threading.Event) -> None:
        respond(200, self._body(self.requests[-1]))(connection, stopping)

    def _body(self, request: str) -> Any:
        path = request.split("?", maxsplit=1)[0]
        if path.endswith("/instance"):
            return {"object": "instance", "id": self._instance_id}
        if path.endswith("memberships"):
            data = [self._membership(path) for _ in range(self.chance.choice([0, 1, 3, 9]))]
            return {"data": data, "total_count": len(data), **self._more()}
        org_id = path.rpartition("/")[2] if path.startswith("GET") else self._id("org")
        return self._organization(org_id)

    def _organization(self, org_id: str) -> dict[str, Any]:
        return {**(self._maker.value(ORGANIZATION) or {}), "id": org_id}

    def _membership(self, path: str) -> dict[str, Any]:
        """Return a membership of the user or organization that the path names."""
        owner = path.split("/")[-2]
        org_id = owner if owner.startswith("org_") else self._id("org")
        user_id = owner if owner.startswith("user_") else self._id("user")
        made = self._maker.value(MEMBERSHIP) or {}
        made |= {"id": self._id("orgmem"), "role": self.chance.choice(ROLES)}
        made["organization"] = self._organization(org_id)
        made["public_user_data"] = {"user_id": user_id, **self._more()}
        if self.chance.random() < 0.2:
            self._spoil(made)
        return made

    def _spoil(self, membership: dict[str, Any]) -> None:
        """Replace a field that a membership needs by a value that the specification allows, too."""
        self.unreadable += 1
        match self.chance.randrange(3):
            case 0:
                membership["id"] = self.chance.choice(["", "x" * 300, "a\x00b", "\ud800"])
            case 1:
                membership["role"] = self.chance.choice(["", "x" * 300, "a\x00b", "\ud800"])
            case _:
                membership["organization"]["id"] = self.chance.choice(STRINGS)

    def _more(self) -> dict[str, Any]:
        return {"field_of_tomorrow": self.chance.choice(STRINGS)} if self.chance.random() < 0.3 else {}

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.chance.getrandbits(64)}"


@pytest.fixture
def clerk(sandbox: SandboxControl, settings: Settings) -> Iterator[RandomClerk]:
    with RandomClerk(sandbox.description["instanceId"], seed=1) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SYNC_MAX_AGE_SECONDS = 0
        yield server


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, which must hold neither an error of ours nor a traceback at the end."""
    yield caplog
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def skipped(log: pytest.LogCaptureFixture) -> int:
    return sum("was skipped" in record.getMessage() for record in log.records)


def test_list_with_unreadable_memberships_is_synced_and_names_each(
    clerk: RandomClerk, log: pytest.LogCaptureFixture, caller: Callable[[], Caller]
) -> None:
    states = []
    for _ in range(ANSWERS):
        response = caller().tenants("?active_only=false")
        assert response.status_code == 200, clerk.requests[-1]
        states.append(response.headers["X-Clerk-Sync"])

    assert set(states) == {"synced"}
    assert Tenant.objects.count() > ANSWERS
    assert skipped(log) == clerk.unreadable > 50


def test_members_with_unreadable_memberships_are_synced_and_each_is_named(
    clerk: RandomClerk, log: pytest.LogCaptureFixture
) -> None:
    for number in range(ANSWERS):
        tenant = Tenant.objects.create(clerk_org_id=f"org_{number}", name="Old")
        TenantService.refresh_from_clerk(tenant)

    assert not Tenant.objects.filter(last_synced_at=None).exists()
    assert skipped(log) == clerk.unreadable > 50
