"""The filters that Clerk offers for users, alone or as members."""

from collections.abc import Callable

from clerk_integration.sandbox.parameters import Query
from clerk_integration.sandbox.records import User

SHARED = (
    "user_id",
    "email_address",
    "phone_number",
    "username",
    "web3_wallet",
    "query",
    "email_address_query",
    "phone_number_query",
    "username_query",
    "name_query",
    "last_active_at_before",
    "last_active_at_after",
    "created_at_before",
    "created_at_after",
)
USERS_ONLY = (
    "external_id",
    "organization_id",
    "banned",
    "last_active_at_since",
    "last_sign_in_at_before",
    "last_sign_in_at_after",
    "provider",
    "provider_user_id",
)

_NOT_KEPT = (
    "phone_number",
    "web3_wallet",
    "phone_number_query",
    "last_active_at_before",
    "last_active_at_after",
    "last_active_at_since",
    "last_sign_in_at_before",
    "last_sign_in_at_after",
    "provider",
    "provider_user_id",
)
"""Parameters about things that no user has here: a filter by one of them finds nobody."""

_TIMES = tuple(name for name in (*SHARED, *USERS_ONLY) if "_at_" in name)

Test = Callable[[User], bool]


def user_filter(query: Query) -> Test | None:
    """Return the test that the query asks for; None when it asks for none."""
    times = {name: query.integer(name) for name in _TIMES}
    tests: list[Test] = []
    if any(query.values(name) for name in _NOT_KEPT):
        tests.append(lambda _: False)
    tests += _exact(query) + _partial(query) + _created(times)
    banned = query.boolean("banned")
    if banned is not None:
        tests.append(lambda user: user.banned is banned)
    return (lambda user: all(test(user) for test in tests)) if tests else None


def _exact(query: Query) -> list[Test]:
    tests: list[Test] = []
    ids, external_ids = query.signed("user_id"), query.signed("external_id")
    emails, usernames = query.values("email_address"), query.values("username")
    if ids:
        tests.append(lambda user: ids.admits(user.id))
    if external_ids:
        tests.append(lambda user: external_ids.admits(user.external_id or ""))
    if emails:
        tests.append(lambda user: user.email_address in emails)
    if usernames:
        tests.append(lambda user: user.username in usernames)
    return tests


def _partial(query: Query) -> list[Test]:
    fields = {
        "email_address_query": ("email_address",),
        "username_query": ("username",),
        "name_query": ("first_name", "last_name"),
        "query": ("email_address", "username", "id", "first_name", "last_name"),
    }
    return [_contains(text.lower(), names) for name, names in fields.items() if (text := query.text(name))]


def _contains(needle: str, names: tuple[str, ...]) -> Test:
    return lambda user: any(needle in (getattr(user, name) or "").lower() for name in names)


def _created(times: dict[str, int | None]) -> list[Test]:
    before, after = times["created_at_before"], times["created_at_after"]
    tests: list[Test] = []
    if before is not None:
        tests.append(lambda user: user.created_at < before)
    if after is not None:
        tests.append(lambda user: user.created_at > after)
    return tests
