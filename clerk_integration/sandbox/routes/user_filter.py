"""The filters of a list of users or members. A filter that `coverage` does not name is an error."""

from collections.abc import Callable, Sequence

from clerk_integration.sandbox import queries
from clerk_integration.sandbox.parameters import optional
from clerk_integration.sandbox.queries import Query, Signed
from clerk_integration.sandbox.records import User

Test = Callable[[User], bool]

QUERIED = ("email_address", "username", "id", "first_name", "last_name")
"""The fields that `query` searches for a substring."""


class UserFilter(Query):
    """The filters that the lists of users and of members share."""

    user_id: Sequence[str] = optional(queries.values, ())
    email_address: Sequence[str] = optional(queries.values, ())
    username: Sequence[str] = optional(queries.values, ())
    query: str | None = optional(queries.text)
    phone_number: Sequence[str] = optional(queries.values, ())
    """No user of the sandbox has a phone number, so this filter matches no user."""

    def tests(self) -> list[Test]:
        """Return the conditions that a user must fulfil."""
        tests: list[Test] = []
        if ids := Signed(self.user_id):
            tests.append(lambda user: ids.admits(user.id))
        if emails := self.email_address:
            tests.append(lambda user: user.email_address in emails)
        if usernames := self.username:
            tests.append(lambda user: user.username in usernames)
        if self.phone_number:
            tests.append(lambda _: False)
        if needle := (self.query or "").lower():
            tests.append(lambda user: any(needle in (getattr(user, name) or "").lower() for name in QUERIED))
        return tests
