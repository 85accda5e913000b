"""The population that an instance starts with: the same ids for the same seed."""

from dataclasses import dataclass
from random import Random

from clerk_integration.sandbox.clock import MillisecondClock
from clerk_integration.sandbox.identifiers import IdFactory, seeded_ids
from clerk_integration.sandbox.records import Change, Membership, Organization, User
from clerk_integration.sandbox.tables import Tables

UNLIMITED = 0


@dataclass(frozen=True, slots=True)
class Seed:
    """How many records of each kind; the first member of an organization is its admin and creator."""

    seed: int = 0
    organizations: int = 0
    users: int = 0
    memberships_per_organization: int = 0

    def __post_init__(self) -> None:
        if min(self.organizations, self.users, self.memberships_per_organization) < 0:
            raise ValueError("The numbers of organizations, users and memberships may not be negative.")
        if self.memberships_per_organization > self.users:
            raise ValueError(
                f"{self.memberships_per_organization} memberships per organization need as many users; "
                f"there are {self.users}."
            )

    def tables(self, clock: MillisecondClock) -> Tables:
        """Make the records."""
        new_id = seeded_ids(Random(self.seed))  # noqa: S311 - reproducible ids, not secrets
        tables = Tables()
        users = [_user(number, new_id, clock) for number in range(1, self.users + 1)]
        for user in users:
            tables.apply(Change("user.created", user))
        for number in range(self.organizations):
            first = number * self.memberships_per_organization
            members = [
                users[(first + offset) % len(users)] for offset in range(self.memberships_per_organization)
            ]
            _add_organization(tables, number + 1, members, new_id, clock)
        return tables


def _user(number: int, new_id: IdFactory, clock: MillisecondClock) -> User:
    now = clock.next()
    return User(
        new_id("user_"),
        now,
        now,
        first_name="User",
        last_name=str(number),
        username=f"user{number}",
        email_address=f"user{number}@example.com",
    )


def _add_organization(
    tables: Tables, number: int, members: list[User], new_id: IdFactory, clock: MillisecondClock
) -> None:
    now = clock.next()
    organization = Organization(
        new_id("org_"),
        name=f"Organization {number}",
        slug=f"organization-{number}",
        created_at=now,
        updated_at=now,
        max_allowed_memberships=UNLIMITED,
        created_by=members[0].id if members else None,
    )
    tables.apply(Change("organization.created", organization))
    for position, user in enumerate(members):
        now = clock.next()
        role = "org:member" if position else "org:admin"
        membership = Membership(new_id("orgmem_"), organization.id, user.id, role, now, now)
        tables.apply(Change("organizationMembership.created", tables.view(membership)))
