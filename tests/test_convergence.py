"""Convergence: the mirror ends in the same rows, whatever order its writes come in.

Clerk's messages in any order, twice or never, mixed with local changes, end in the rows that a sync into
an empty database gives: without any sync if no message was lost, else after a sync of the affected objects.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle, permutations
from math import factorial
from typing import Any

import pytest
from django.db import transaction
from django.db.models import F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clerk_integration.entities import ClerkOrganization
from clerk_integration.webhooks.registry import ClerkEvent, handle, is_handled
from tenants.creation.create import adopt_organization
from tenants.exceptions import OrganizationDeleted
from tenants.lifecycle import delete, link, restore
from tenants.mirror import deletions, writer
from tenants.models import Membership, Tenant, Tombstone
from tenants.services import sync_organization
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

Json = dict[str, Any]
Rows = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]
FEW, MANY = 6, pytest.param(60, marks=pytest.mark.slow)
"""How many orders of a scenario's messages are tried at most."""

REFUSALS = ("resource_not_found", "already_a_member_in_organization")
"""Codes of Clerk for changes that make no sense at the point where a random sequence has them."""


@dataclass
class World:
    """Two organizations with an owner who stays, and two users who come and go."""

    sandbox: SandboxControl
    cascades: bool = True
    """Whether Clerk sends an event for each membership that a deletion ends. Clerk's docs do not say."""
    owner: str = ""
    users: list[str] = field(default_factory=list)
    organizations: list[str] = field(default_factory=list)
    created: dict[str, ClerkOrganization] = field(default_factory=dict)
    """The organizations as Clerk first showed them."""
    renames: int = 0

    def __post_init__(self) -> None:
        self.sandbox.reset()
        self.sandbox.webhooks(paused=True, cascades=self.cascades)
        self.owner = self.sandbox.user()["id"]
        self.users = [self.sandbox.user()["id"] for _ in range(2)]

    def create(self, index: int) -> None:
        body = self.sandbox.organization(f"Organization {index}", self.owner, f"slug-{index}")
        self.organizations.append(body["id"])
        self.created[body["id"]] = ClerkOrganization.from_json(body)

    def rename(self, index: int) -> None:
        self.renames += 1
        self._organization("PATCH", index, body={"name": f"Renamed {self.renames} times"})

    def annotate(self, index: int) -> None:
        self.renames += 1
        self._organization("PATCH", index, "/metadata", body={"public_metadata": {"plan": self.renames}})

    def swap_slugs(self, _: int) -> None:
        if len(self.organizations) < 2:
            return
        first, second = (self._organization("GET", index)["slug"] for index in (0, 1))
        self._organization("PATCH", 0, body={"slug": "in-between"})
        self._organization("PATCH", 1, body={"slug": first})
        self._organization("PATCH", 0, body={"slug": second})

    def join(self, index: int) -> None:
        for user in self.users:
            self._organization("POST", index, "/memberships", body={"user_id": user, "role": "org:member"})

    def promote(self, index: int) -> None:
        self._organization("PATCH", index, f"/memberships/{self.users[0]}", body={"role": "org:admin"})

    def leave(self, index: int) -> None:
        self._organization("DELETE", index, f"/memberships/{self.users[0]}")

    def delete(self, index: int) -> None:
        self._organization("DELETE", index)

    def delete_user(self, _: int) -> None:
        self._try("DELETE", f"/users/{self.users[1]}")

    def messages(self) -> list[Json]:
        """What Clerk sends about all this, in the order of the changes."""
        return [m["body"] for m in self.sandbox.messages() if is_handled(m["type"])]

    def _organization(self, method: str, index: int, path: str = "", body: Json | None = None) -> Any:
        if index < len(self.organizations):
            return self._try(method, f"/organizations/{self.organizations[index]}{path}", body)
        return {}

    def _try(self, method: str, path: str, body: Json | None = None) -> Any:
        """Do what Clerk's rules allow at this point; what they refuse did not happen."""
        try:
            return self.sandbox.api(method, path, body)
        except AssertionError as refusal:
            if not any(rule in str(refusal) for rule in REFUSALS):
                raise
            return {"slug": None}


def unlink(world: World, clerk_org_id: str) -> None:
    """Unlink a tenant, as staff do."""
    for tenant in Tenant.objects.filter(clerk_org_id=clerk_org_id):
        link.unlink(tenant, acting_user=None)


def delete_if_deleted_in_clerk(world: World, clerk_org_id: str) -> None:
    """Delete a tenant whose organization was deleted in Clerk, as staff do."""
    for tenant in Tenant.objects.filter(clerk_org_id=clerk_org_id, deleted_at__isnull=False):
        delete.delete(tenant, acting_user=None)


def create_unread(world: World, clerk_org_id: str) -> None:
    """Finish a create whose membership Clerk could not be asked for."""
    if not Tombstone.objects.filter(clerk_id=clerk_org_id).exists():
        organization = ClerkOrganization(id=clerk_org_id, name="As it was created")
        adopt_organization(world.owner, organization, None, "org:member")


def restore_from_a_stale_answer(world: World, clerk_org_id: str) -> None:
    """Restore a deleted organization from an answer of Clerk that is older than the deletion."""
    if Tombstone.objects.filter(clerk_id=clerk_org_id).exists():
        with suppress(OrganizationDeleted):
            restore.restore(world.created[clerk_org_id], [], asked_at=writer.clock(), complete=False)


LOCAL: list[Callable[[World, str], None]] = [
    unlink,
    delete_if_deleted_in_clerk,
    create_unread,
    restore_from_a_stale_answer,
]


def record_deleted_by_mistake(world: World, clerk_org_id: str) -> None:
    """Record the organization as deleted, as a sync with the key of another instance did."""
    deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)


def end_members_by_mistake(world: World, clerk_org_id: str) -> None:
    """End all memberships of the organization, as a sync with the key of another instance did."""
    members = Membership.objects.filter(tenant__clerk_org_id=clerk_org_id)
    writer.end_memberships(list(members.values_list("pk", flat=True)), listed_at=writer.clock())


MISTAKES: list[Callable[[World, str], None]] = [record_deleted_by_mistake, end_members_by_mistake]


def rows() -> Rows:
    """Return the mirror: living organizations and their active memberships."""
    tenants = Tenant.objects.filter(clerk_org_id__isnull=False, deleted_at=None)
    columns = (
        "clerk_org_id",
        "name",
        "slug",
        "logo_url",
        "clerk_metadata",
        "status",
        "clerk_created_at",
        "clerk_updated_at",
    )
    members = Membership.objects.filter(is_active=True, tenant__in=tenants)
    member_columns = (
        "clerk_membership_id",
        "tenant__clerk_org_id",
        "clerk_user_id",
        "role",
        "clerk_created_at",
        "clerk_updated_at",
    )
    return (
        sorted(tenants.values_list(*columns)),
        sorted(members.values_list(*member_columns)),
    )


def sync_everything(world: World) -> None:
    """Sync every organization with Clerk's current answers, a minute after the last deletion."""
    Tombstone.objects.update(created_at=F("created_at") - timedelta(seconds=61))
    for clerk_org_id in world.organizations:
        sync_organization(clerk_org_id)


@contextmanager
def undone() -> Iterator[None]:
    """Undo at the end what the block has written.

    Uses a savepoint without `atomic`, because Clerk may not be called inside `atomic`.
    """
    savepoint = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(savepoint)


def expected(world: World) -> Rows:
    """Return the rows that a sync into an empty database gives."""
    with undone():
        sync_everything(world)
        return rows()


def with_ids_only(messages: Sequence[Json]) -> list[Json]:
    """Reduce the data of deletions to an id, which identifies the deleted record."""
    return [
        {**message, "data": {"id": message["data"]["id"], "deleted": True}}
        if message["type"].endswith(".deleted")
        else message
        for message in messages
    ]


def deliver(messages: Sequence[Json]) -> None:
    """Handle the messages as a worker does: one by one, and in batches of 3 and 9."""
    waiting = [ClerkEvent.from_json(message) for message in messages]
    for size in cycle((1, 3, 9)):
        handle(waiting[:size])
        del waiting[:size]
        if not waiting:
            break


def orders(messages: list[Json], most: int) -> Iterator[list[Json]]:
    """Yield all orders of the messages, or the given order, its reverse and a seeded choice of the others."""
    if factorial(len(messages)) <= most:
        yield from map(list, permutations(messages))
        return
    yield messages
    yield messages[::-1]
    choice = random.Random(len(messages))
    for _ in range(most - 2):
        yield choice.sample(messages, len(messages))


def partly_repeated(number: int, order: list[Json]) -> list[Json]:
    """Let half of the messages arrive twice, the second time late or early; in every third order none does.

    A message that arrives twice can hide what its order does.
    """
    late, early = [*order, *order[::2]], [*order[::2], *order]
    return (late, order, early)[number % 3]


def position(number: int, order: list[Json]) -> int:
    """Return a seeded choice of how many messages arrive before the interruption of an order."""
    return random.Random(number).randint(0, len(order))


SCENARIOS: dict[str, list[tuple[str, int]]] = {
    "create": [("create", 0)],
    "rename twice": [("create", 0), ("rename", 0), ("rename", 0)],
    "metadata": [("create", 0), ("annotate", 0), ("annotate", 0)],
    "create and delete": [("create", 0), ("rename", 0), ("delete", 0)],
    "slug swap": [("create", 0), ("create", 1), ("swap_slugs", 0)],
    "role change": [("create", 0), ("join", 0), ("promote", 0)],
    "leave": [("create", 0), ("join", 0), ("leave", 0)],
    "leave and rejoin": [("create", 0), ("join", 0), ("promote", 0), ("leave", 0), ("join", 0)],
    "user deleted": [("create", 0), ("create", 1), ("join", 0), ("join", 1), ("delete_user", 0)],
    "everything": [
        ("create", 0),
        ("create", 1),
        ("join", 0),
        ("join", 1),
        ("promote", 0),
        ("swap_slugs", 0),
        ("leave", 0),
        ("rename", 1),
        ("annotate", 0),
        ("join", 0),
        ("delete_user", 0),
        ("delete", 1),
    ],
}


@pytest.fixture
def play(sandbox: SandboxControl) -> Callable[..., World]:
    """Return a function that makes changes in the local Clerk."""

    def run(steps: Sequence[tuple[str, int]], *, cascades: bool = True) -> World:
        world = World(sandbox, cascades=cascades)
        for name, index in steps:
            getattr(world, name)(index)
        return world

    return run


@pytest.mark.parametrize("most", [FEW, MANY])
@pytest.mark.parametrize(
    ("scenario", "cascades", "reduce"),
    [
        *((name, True, list) for name in SCENARIOS),
        *((name, False, list) for name in ("create and delete", "user deleted")),
        *((name, True, with_ids_only) for name in ("leave", "leave and rejoin", "create and delete")),
    ],
)
def test_messages_in_any_order_and_twice_end_in_the_rows_of_a_sync(
    play: Callable[..., World],
    scenario: str,
    cascades: bool,
    reduce: Callable[[list[Json]], list[Json]],
    most: int,
) -> None:
    world = play(SCENARIOS[scenario], cascades=cascades)
    goal, messages = expected(world), reduce(world.messages())
    assert messages

    for number, order in enumerate(orders(messages, most)):
        with undone():
            deliver(partly_repeated(number, order))
            assert rows() == goal, [message["type"] for message in order]


@pytest.mark.parametrize("most", [FEW, MANY])
@pytest.mark.parametrize("local", LOCAL)
@pytest.mark.parametrize("scenario", ["rename twice", "create and delete", "leave and rejoin"])
def test_messages_with_local_changes_between_them_end_in_the_rows_of_a_sync(
    play: Callable[..., World], scenario: str, local: Callable[[World, str], None], most: int
) -> None:
    world = play(SCENARIOS[scenario])
    goal, messages = expected(world), world.messages()

    for number, order in enumerate(orders(messages, most)):
        with undone():
            at = position(number, order)
            deliver(order[:at])
            local(world, world.organizations[0])
            deliver(order[at:])
            assert rows() == goal, (at, [message["type"] for message in order])


@pytest.mark.parametrize("most", [FEW, MANY])
@pytest.mark.parametrize(
    "scenario", ["rename twice", "create and delete", "leave and rejoin", "user deleted"]
)
def test_messages_with_a_sync_between_them_end_in_the_rows_of_a_sync(
    play: Callable[..., World], scenario: str, most: int
) -> None:
    """The messages after the sync are older than what the sync has read."""
    world = play(SCENARIOS[scenario])
    goal, messages = expected(world), world.messages()

    for number, order in enumerate(orders(messages, most)):
        with undone():
            at = position(number, order)
            deliver(order[:at])
            sync_everything(world)
            deliver(order[at:])
            assert rows() == goal, (at, [message["type"] for message in order])


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_messages_lost_then_a_sync_end_in_the_rows_of_a_sync(
    play: Callable[..., World], scenario: str, times: int
) -> None:
    world = play(SCENARIOS[scenario])
    goal, messages = expected(world), world.messages()
    choice = random.Random(scenario)

    for _ in range(times):
        with undone():
            arrived = [message for message in messages if choice.random() < 0.6]
            choice.shuffle(arrived)
            deliver(arrived)
            choice.choice(LOCAL)(world, world.organizations[0])
            sync_everything(world)
            assert rows() == goal, [message["type"] for message in arrived]


@pytest.mark.parametrize("most", [FEW, MANY])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("scenario", ["rename twice", "leave and rejoin", "everything"])
def test_messages_with_a_mistake_between_them_then_a_sync_end_in_the_rows_of_a_sync(
    play: Callable[..., World], scenario: str, mistake: Callable[[World, str], None], most: int
) -> None:
    """Tombstones and ended memberships that Clerk contradicts, made with the key of another instance."""
    world = play(SCENARIOS[scenario])
    goal, messages = expected(world), world.messages()

    for number, order in enumerate(orders(messages, most)):
        with undone():
            at = position(number, order)
            deliver(order[:at])
            mistake(world, world.organizations[0])
            LOCAL[number % len(LOCAL)](world, world.organizations[0])
            deliver(order[at:])
            sync_everything(world)
            assert rows() == goal, (at, [message["type"] for message in order])


CHANGES = ["rename", "annotate", "swap_slugs", "join", "promote", "leave", "delete", "delete_user"]

STEPS = st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 1)), max_size=8)


@pytest.mark.parametrize("examples", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_messages_of_any_changes_end_in_the_rows_of_a_sync(play: Callable[..., World], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(steps=STEPS, cascades=st.booleans(), randomness=st.randoms(use_true_random=False))
    def converge(steps: list[tuple[str, int]], cascades: bool, randomness: random.Random) -> None:
        world = play([("create", 0), ("create", 1), *steps], cascades=cascades)
        goal, messages = expected(world), world.messages()
        order = randomness.sample(messages, len(messages)) + randomness.choices(messages, k=3)

        with undone():
            deliver(order)
            assert rows() == goal, [message["type"] for message in order]
        with undone():
            deliver(order[: len(order) // 2])
            randomness.choice(LOCAL + MISTAKES)(world, randomness.choice(world.organizations))
            sync_everything(world)
            assert rows() == goal, [message["type"] for message in order]

    converge()
