"""The filters that Clerk offers for users, alone or as members."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from clerk_integration.sandbox import queries
from clerk_integration.sandbox.parameters import optional
from clerk_integration.sandbox.queries import Query, Signed
from clerk_integration.sandbox.records import User

Test = Callable[[User], bool]

_PARTIAL = {
    "email_address_query": ("email_address",),
    "username_query": ("username",),
    "name_query": ("first_name", "last_name"),
    "query": ("email_address", "username", "id", "first_name", "last_name"),
}
"""The fields of a user in which a parameter finds a part."""


class MemberFilter(Query):
    """The filters of a list of members; one by data that the sandbox does not keep finds no user."""

    not_kept: ClassVar = {
        **dict.fromkeys(("phone_number", "web3_wallet"), queries.values),
        **dict.fromkeys(("last_active_at_before", "last_active_at_after"), queries.integer),
        "phone_number_query": queries.text,
    }

    user_id: Sequence[str] = optional(queries.values, ())
    email_address: Sequence[str] = optional(queries.values, ())
    username: Sequence[str] = optional(queries.values, ())
    query: str | None = optional(queries.text)
    email_address_query: str | None = optional(queries.text)
    username_query: str | None = optional(queries.text)
    name_query: str | None = optional(queries.text)
    created_at_before: int | None = optional(queries.integer)
    created_at_after: int | None = optional(queries.integer)

    def tests(self) -> list[Test]:
        """Return the tests that a user must pass."""
        texts = {name: getattr(self, name) for name in _PARTIAL}
        tests = [_contains(text.lower(), _PARTIAL[name]) for name, text in texts.items() if text]
        if self.asks_for_what_is_not_kept:
            tests.append(lambda _: False)
        if ids := Signed(self.user_id):
            tests.append(lambda user: ids.admits(user.id))
        if emails := self.email_address:
            tests.append(lambda user: user.email_address in emails)
        if usernames := self.username:
            tests.append(lambda user: user.username in usernames)
        if (before := self.created_at_before) is not None:
            tests.append(lambda user: user.created_at < before)
        if (after := self.created_at_after) is not None:
            tests.append(lambda user: user.created_at > after)
        return tests


class UserFilter(MemberFilter):
    """The filters of a list of users."""

    not_kept: ClassVar = {
        **MemberFilter.not_kept,
        **dict.fromkeys(("last_sign_in_at_before", "last_sign_in_at_after"), queries.integer),
        "last_active_at_since": queries.integer,
        **dict.fromkeys(("provider", "provider_user_id"), queries.values),
    }

    external_id: Sequence[str] = optional(queries.values, ())
    organization_id: Sequence[str] = optional(queries.values, ())
    banned: bool | None = optional(queries.boolean)

    def tests(self) -> list[Test]:
        """Return the tests that a user must pass."""
        tests, external_ids, banned = super().tests(), Signed(self.external_id), self.banned
        if external_ids:
            tests.append(lambda user: external_ids.admits(user.external_id or ""))
        if banned is not None:
            tests.append(lambda user: user.banned is banned)
        return tests


def _contains(needle: str, names: tuple[str, ...]) -> Test:
    return lambda user: any(needle in (getattr(user, name) or "").lower() for name in names)
