"""Organizations and memberships in Clerk: read, created and changed through the Backend API.

All functions call Clerk and write no rows. All raise ClerkError, and ClerkCalledInTransaction inside a
database transaction. A malformed id raises InvalidClerkId before anything is sent. Outside of a
`clerk_deadline` block, each call has CLERK_TIMEOUT_SECONDS. Listings send one request for each 500 records.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from clerk_integration.conf import PAGE_SIZE
from clerk_integration.entities import (
    MARKER_KEY,
    ClerkMembership,
    ClerkOrganization,
    NestedOrganizations,
    UnreadableRecord,
    record_id,
)
from clerk_integration.exceptions import ClerkNotFound, ClerkProtocolError, ClerkRejected
from clerk_integration.wire.client import read, write
from clerk_integration.wire.ids import USER, is_id, validate_org_id, validate_user_id
from clerk_integration.wire.pages import ClerkPage, FetchPage, Record, read_page
from clerk_integration.wire.passes import ClerkList, ClerkListing
from clerk_integration.wire.replies import Reply

if TYPE_CHECKING:
    from clerk_backend_api import Clerk

MAX_IDS = 100
"""Clerk's maximum number of ids in the filter of one call."""

ALREADY_A_MEMBER = "already_a_member_in_organization"
"""Clerk's code for a second membership of a user in an organization."""


def get_clerk_org(org_id: str) -> ClerkOrganization:
    """Fetch one organization by its id, not its slug; raise ClerkNotFound if Clerk does not know the id."""
    validate_org_id(org_id)
    reply = read(lambda clerk: clerk.organizations.get(organization_id=org_id))
    organization = _single(reply, ClerkOrganization.from_json)
    if organization.id != org_id:
        # Clerk accepts a slug in the place of the id, and a slug may look like an id.
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
    """Create an organization in Clerk; `created_by` becomes the first member, with Clerk's creator role.

    Sends exactly one POST. `slug` is left out if None, because an instance with slugs disabled refuses any
    slug. `marker` is stored under MARKER_KEY in private_metadata. After an error whose `outcome_unknown` is
    true, the organization may exist: search for the marker before you send the request again.
    """
    request: Any = {"name": name, "created_by": validate_user_id(created_by)}
    optional = {
        "slug": slug,
        "private_metadata": None if marker is None else {MARKER_KEY: dict(marker)},
        "public_metadata": None if public_metadata is None else dict(public_metadata),
        "max_allowed_memberships": max_allowed_memberships,
    }
    # The SDK would send None as null. A null slug is not the same as a missing slug.
    request |= {key: value for key, value in optional.items() if value is not None}
    reply = write(lambda clerk: clerk.organizations.create(request=request))
    return _single(reply, ClerkOrganization.from_json)


def update_clerk_org(org_id: str, *, name: str | None = None, slug: str | None = None) -> ClerkOrganization:
    """Change the name or the slug of an organization in Clerk, or both; None leaves a value unchanged.

    Sends one PATCH. Raises ClerkNotFound, and ClerkRejected for a taken slug. After an error whose
    `outcome_unknown` is true, the change may have happened.
    """
    validate_org_id(org_id)
    # The SDK would send None as null.
    changes: Any = {key: value for key, value in {"name": name, "slug": slug}.items() if value is not None}
    reply = write(lambda clerk: clerk.organizations.update(organization_id=org_id, **changes))
    return _single(reply, ClerkOrganization.from_json)


def delete_clerk_org(org_id: str) -> None:
    """Delete an organization with all its memberships in Clerk. This cannot be undone.

    Sends one DELETE, which is safe to repeat: raises ClerkNotFound if Clerk does not know the id (any more).
    """
    validate_org_id(org_id)
    write(lambda clerk: clerk.organizations.delete(organization_id=org_id))


def raise_clerk_member_limit(org_id: str, members: int) -> ClerkOrganization:
    """Set the limit of an organization's memberships in Clerk to `members` (0: unlimited).

    Sends one PATCH, which is safe to repeat. Raises ClerkNotFound. Raises ClerkRejected if the instance's
    plan bills by seats and manages the limit itself.
    """
    validate_org_id(org_id)
    reply = write(
        lambda clerk: clerk.organizations.update(organization_id=org_id, max_allowed_memberships=members)
    )
    return _single(reply, ClerkOrganization.from_json)


def create_clerk_membership(org_id: str, user_id: str, role: str) -> ClerkMembership | None:
    """Make a user a member of an organization in Clerk; return None if the user is a member already.

    Sends one POST. After an unknown outcome, the POST is safe to repeat, because Clerk refuses a second
    membership. Raises ClerkNotFound for an unknown organization, user or role, and ClerkRejected
    (`organization_membership_quota_exceeded`, ...).
    """
    validate_org_id(org_id)
    validate_user_id(user_id)
    try:
        reply = write(
            lambda clerk: clerk.organization_memberships.create(
                organization_id=org_id, user_id=user_id, role=role
            )
        )
    except ClerkRejected as refusal:
        if refusal.code == ALREADY_A_MEMBER:
            return None
        raise
    return _single(reply, _membership_reader(user_id=user_id, org_id=org_id))


def find_clerk_users(user_ids: Iterable[str]) -> set[str]:
    """Return the ids that Clerk knows as users. Sends one call per 100 ids, and no malformed ids."""
    wanted = [user_id for user_id in dict.fromkeys(user_ids) if is_id(user_id, USER)]
    known: set[str] = set()
    for start in range(0, len(wanted), MAX_IDS):
        request: Any = {"user_id": wanted[start : start + MAX_IDS], "limit": MAX_IDS}
        page = read(partial(_list_users, request=request)).json()
        if not isinstance(page, list):
            raise ClerkProtocolError("Clerk's reply is not a list of users.")
        known.update(user["id"] for user in page if isinstance(user, Mapping) and "id" in user)
    return known & set(wanted)


def get_user_clerk_orgs(user_id: str) -> ClerkList[ClerkMembership]:
    """Fetch all memberships of a user, each with its role and organization.

    Raises ClerkNotFound for an unknown user. Unreadable records are left out and named in `skipped`. If one
    of them has no id, the list is not `complete`: retire no row only because the list lacks it.
    """
    validate_user_id(user_id)
    return ClerkListing(
        _page_fetcher(
            lambda clerk, **page: clerk.users.get_organization_memberships(user_id=user_id, **page),
            _membership_reader(user_id=user_id),
        )
    ).to_list()


def iter_clerk_orgs(
    *, query: str | None = None, user_id: str | None = None, order_by: str = "+created_at"
) -> ClerkListing[ClerkOrganization]:
    """List organizations lazily, oldest first: all, those that match `query`, or those of the user.

    `query` is an id, or a part of a name or slug.
    """
    members = None if user_id is None else [validate_user_id(user_id)]
    return ClerkListing(
        _page_fetcher(
            lambda clerk, **page: clerk.organizations.list(
                query=query, user_id=members, order_by=order_by, **page
            ),
            ClerkOrganization.from_json,
        )
    )


def search_clerk_orgs(text: str, *, limit: int = 20) -> ClerkPage[ClerkOrganization]:
    """Fetch the newest `limit` organizations whose id is `text`, or whose name or slug contains it.

    One call; the page's `total` is the number of all that match. The name or slug matches in any case.
    """
    fetch = _page_fetcher(
        lambda clerk, **page: clerk.organizations.list(query=text, order_by="-created_at", **page),
        ClerkOrganization.from_json,
        limit=limit,
    )
    return fetch(0)


def get_clerk_orgs(org_ids: Sequence[str]) -> ClerkList[ClerkOrganization]:
    """Fetch up to 100 organizations by their ids, in one call.

    Clerk leaves out unknown ids. Call `get_clerk_org` to be certain about one id.
    """
    wanted = _at_most_100([validate_org_id(org_id) for org_id in org_ids])
    fetch = _page_fetcher(
        lambda clerk, **page: clerk.organizations.list(organization_id=wanted, **page),
        ClerkOrganization.from_json,
    )
    found = fetch(0)
    return ClerkList([org for org in found.records if org.id in wanted], skipped=found.skipped)


def get_clerk_orgs_page(offset: int) -> ClerkPage[ClerkOrganization]:
    """Fetch one page of up to 500 organizations, oldest first, starting at `offset`."""
    fetch = _page_fetcher(
        lambda clerk, **page: clerk.organizations.list(order_by="+created_at", **page),
        ClerkOrganization.from_json,
    )
    return fetch(offset)


def get_clerk_memberships_page(offset: int) -> ClerkPage[ClerkMembership]:
    """Fetch one page of up to 500 memberships of all organizations, oldest first, starting at `offset`."""
    fetch = _page_fetcher(
        lambda clerk, **page: clerk.users.get_instance_organization_memberships(
            order_by="+created_at", **page
        ),
        _membership_reader(),
    )
    return fetch(offset)


def iter_clerk_memberships(
    org_id: str, *, user_ids: Sequence[str] | None = None
) -> ClerkListing[ClerkMembership]:
    """List an organization's memberships lazily, oldest first: all, or those of up to 100 users.

    Iteration raises ClerkNotFound for an unknown organization.
    """
    return ClerkListing(_org_memberships_fetcher(org_id, user_ids))


def get_clerk_org_memberships_page(org_id: str, offset: int = 0) -> ClerkPage[ClerkMembership]:
    """Fetch one page of up to 500 memberships of an organization, oldest first, starting at `offset`.

    Raises ClerkNotFound for an unknown organization.
    """
    return _org_memberships_fetcher(org_id)(offset)


def get_clerk_memberships(org_id: str, user_ids: Sequence[str]) -> ClerkList[ClerkMembership]:
    """Fetch the memberships of up to 100 users in an organization; leave out users without a membership.

    Raises ClerkNotFound for an unknown organization.
    """
    return iter_clerk_memberships(org_id, user_ids=user_ids).to_list()


def get_clerk_membership(org_id: str, user_id: str) -> ClerkMembership | None:
    """Fetch a user's membership of an organization; return None if Clerk answers that there is none.

    Raises ClerkNotFound for an unknown organization. Raises ClerkProtocolError if an unreadable record may be
    the membership.
    """
    memberships = get_clerk_memberships(org_id, [user_id])
    for membership in memberships:
        if membership.user_id == user_id:
            return membership
    if memberships.skipped:
        raise ClerkProtocolError(f"Clerk's record of {user_id} in {org_id} cannot be read.")
    return None


def _org_memberships_fetcher(
    org_id: str, user_ids: Sequence[str] | None = None
) -> FetchPage[ClerkMembership]:
    validate_org_id(org_id)
    members = None if user_ids is None else _at_most_100([validate_user_id(one) for one in user_ids])
    return _page_fetcher(
        lambda clerk, **page: clerk.organization_memberships.list(
            organization_id=org_id, user_id=members, order_by="+created_at", **page
        ),
        _membership_reader(org_id=org_id),
    )


def _page_fetcher(
    list_page: Callable[..., object], read_record: Callable[[Any], Record], *, limit: int = PAGE_SIZE
) -> FetchPage[Record]:
    """Return a function that fetches one page with `list_page(clerk, limit=..., offset=...)`."""

    def fetch(offset: int) -> ClerkPage[Record]:
        reply = read(lambda clerk: list_page(clerk, limit=limit, offset=offset))
        return read_page(reply.json(), read_record, offset=offset)

    return fetch


def _single(reply: Reply, read_record: Callable[[Any], Record]) -> Record:
    data = reply.json()
    try:
        return read_record(data)
    except UnreadableRecord as exc:
        raise ClerkProtocolError(f"Clerk's record {record_id(data)} cannot be read: {exc}.") from None


def _membership_reader(
    *, user_id: str | None = None, org_id: str | None = None
) -> Callable[[Any], ClerkMembership]:
    """Return a reader that refuses memberships of other users or organizations: memberships grant access."""
    nested = NestedOrganizations()

    def read_membership(data: Any) -> ClerkMembership:
        membership = ClerkMembership.from_json(data, user_id=user_id, read_organization=nested.read)
        if user_id not in (None, membership.user_id) or org_id not in (None, membership.organization.id):
            raise UnreadableRecord("it is the membership of another user or organization")
        return membership

    return read_membership


def _at_most_100(ids: Sequence[str]) -> Sequence[str]:
    if len(ids) > MAX_IDS:
        raise ValueError(f"{len(ids)} ids; Clerk takes at most {MAX_IDS} at once")
    return ids


def _list_users(clerk: "Clerk", *, request: Any) -> object:
    with warnings.catch_warnings():
        # The SDK warns of deprecated fields of the request even if they are not used.
        warnings.simplefilter("ignore", DeprecationWarning)
        return clerk.users.list(request=request)
