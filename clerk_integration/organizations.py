"""Organizations and memberships, read from and created in Clerk.

All functions call Clerk and write nothing here; all raise ClerkError, and ClerkCalledInTransaction
inside a database transaction. Without a running `clerk_deadline`, each has CLERK_TIMEOUT_SECONDS.
"""

from collections.abc import Callable, Mapping
from typing import Any

from clerk_integration.client import read, write
from clerk_integration.entities import MARKER_KEY, ClerkMembership, ClerkOrganization, UnreadableRecord
from clerk_integration.exceptions import ClerkNotFound, ClerkProtocolError
from clerk_integration.ids import validate_org_id, validate_user_id
from clerk_integration.listing import ClerkList, ClerkListing


def get_clerk_org(org_id: str) -> ClerkOrganization:
    """Fetch one organization by its id (not its slug).

    Raises InvalidClerkId, ClerkNotFound, and ClerkError as of `client.read`.
    """
    validate_org_id(org_id)
    organization = _organization(read(lambda clerk: clerk.organizations.get(organization_id=org_id)))
    if organization.id != org_id:
        # Clerk takes a slug at this place as well, and a slug may look like an id.
        raise ClerkNotFound(f"Clerk has no organization with the id {org_id}.")
    return organization


def create_clerk_org(
    name: str,
    created_by: str,
    slug: str | None = None,
    *,
    marker: Mapping[str, Any] | None = None,
    public_metadata: Mapping[str, Any] | None = None,
    max_allowed_memberships: int | None = None,
) -> ClerkOrganization:
    """Create an organization in Clerk, with `created_by` as its first member in Clerk's creator role.

    Exactly one POST. `slug` is left out when None: an instance with slugs disabled refuses any.
    `marker` is kept under MARKER_KEY in private_metadata. Raises InvalidClerkId, ClerkRejected,
    and ClerkError as of `client.write`: after a ClerkUnavailable with `outcome_unknown`, and after
    a ClerkProtocolError, the organization may exist; look for the marker before sending again.
    """
    request: Any = {"name": name, "created_by": validate_user_id(created_by)}
    optional = {
        "slug": slug,
        "private_metadata": None if marker is None else {MARKER_KEY: dict(marker)},
        "public_metadata": None if public_metadata is None else dict(public_metadata),
        "max_allowed_memberships": max_allowed_memberships,
    }
    # The SDK would send a None as null, which is not the same as leaving the field out.
    request |= {key: value for key, value in optional.items() if value is not None}
    return _organization(write(lambda clerk: clerk.organizations.create(request=request)))


def get_user_clerk_orgs(user_id: str) -> ClerkList[ClerkMembership]:
    """Fetch all memberships of a user, each with its role and organization.

    One call for each 500. Returns all of them or raises: InvalidClerkId, ClerkNotFound for a user
    that Clerk does not know, ClerkError as of `client.read`. A record that cannot be read at all is
    left out and counted in `skipped`; the list is then not `complete`, and nothing may be retired
    for its absence.
    """
    validate_user_id(user_id)
    return ClerkListing(
        lambda limit, offset: read(
            lambda clerk: clerk.users.get_organization_memberships(
                user_id=user_id, limit=limit, offset=offset
            )
        ),
        _membership_reader(user_id=user_id),
    ).to_list()


def iter_clerk_orgs(
    *, query: str | None = None, user_id: str | None = None, order_by: str = "+created_at"
) -> ClerkListing[ClerkOrganization]:
    """List organizations lazily, oldest first: all, or those that match `query` or have this member.

    `query` is an id, or a part of a name or slug. One call for each 500. Complete or raises, see
    ClerkListing. Raises InvalidClerkId at once, ClerkError while iterating.
    """
    members = None if user_id is None else [validate_user_id(user_id)]
    return ClerkListing(
        lambda limit, offset: read(
            lambda clerk: clerk.organizations.list(
                query=query, user_id=members, order_by=order_by, limit=limit, offset=offset
            )
        ),
        ClerkOrganization.from_json,
    )


def iter_clerk_memberships(org_id: str, *, user_id: str | None = None) -> ClerkListing[ClerkMembership]:
    """List the memberships of an organization lazily, oldest first, or only those of one user.

    One call for each 500. Complete or raises, see ClerkListing. Raises InvalidClerkId at once,
    ClerkNotFound and other ClerkErrors while iterating.
    """
    validate_org_id(org_id)
    members = None if user_id is None else [validate_user_id(user_id)]
    return ClerkListing(
        lambda limit, offset: read(
            lambda clerk: clerk.organization_memberships.list(
                organization_id=org_id, user_id=members, order_by="+created_at", limit=limit, offset=offset
            )
        ),
        _membership_reader(org_id=org_id),
    )


def get_clerk_membership(org_id: str, user_id: str) -> ClerkMembership | None:
    """Fetch a user's membership of an organization; None when Clerk says that there is none.

    Raises InvalidClerkId, ClerkNotFound for an unknown organization, ClerkProtocolError when a
    record that may be the answer cannot be read, and ClerkError as of `client.read`.
    """
    memberships = iter_clerk_memberships(org_id, user_id=user_id).to_list()
    for membership in memberships:
        if membership.user_id == user_id:
            return membership
    if not memberships.complete:
        raise ClerkProtocolError(f"Clerk's record of {user_id} in {org_id} cannot be read.")
    return None


def _organization(data: Any) -> ClerkOrganization:
    try:
        return ClerkOrganization.from_json(data)
    except (UnreadableRecord, RecursionError) as exc:
        raise ClerkProtocolError(f"Clerk's answer is no organization: {exc}.") from None


def _membership_reader(
    *, user_id: str | None = None, org_id: str | None = None
) -> Callable[[Any], ClerkMembership]:
    """Read memberships that must be of this user or organization: they grant access."""

    def read_membership(data: Any) -> ClerkMembership:
        membership = ClerkMembership.from_json(data, user_id=user_id)
        if user_id not in (None, membership.user_id) or org_id not in (None, membership.organization.id):
            raise UnreadableRecord("a membership of another user or organization than was asked for")
        return membership

    return read_membership
