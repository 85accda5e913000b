"""Validate Clerk's ids before they are used in a URL path.

The SDK does not escape path parameters: `a/b?c` would call another endpoint, and an empty id would call the
listing.
"""

import re

from clerk_integration.exceptions import InvalidClerkId

MAX_ID_LENGTH = 255
"""Characters that our columns hold; Clerk's own ids have about 30."""

ORGANIZATION = "org_"
USER = "user_"

_ANY_PREFIX = re.compile(r"[a-z]+_", re.ASCII)
_ID_BODY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def is_id(value: object, prefix: str) -> bool:
    """Return whether `value` has the form of a Clerk id with this prefix."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_ID_LENGTH
        and value.startswith(prefix)
        and _ID_BODY.fullmatch(value, len(prefix)) is not None
    )


def is_any_id(value: object) -> bool:
    """Return whether `value` has the form of a Clerk id of any kind."""
    prefix = _ANY_PREFIX.match(value) if isinstance(value, str) else None
    return prefix is not None and is_id(value, prefix[0])


def validate_org_id(value: object) -> str:
    """Return `value` if it has the form of an organization id (`org_...`); raise InvalidClerkId."""
    return _validated(value, ORGANIZATION, "an organization id")


def validate_user_id(value: object) -> str:
    """Return `value` if it has the form of a user id (`user_...`); raise InvalidClerkId."""
    return _validated(value, USER, "a user id")


def _validated(value: object, prefix: str, kind: str) -> str:
    if isinstance(value, str) and is_id(value, prefix):
        return value
    raise InvalidClerkId(
        f"{repr(value)[:80]} is not {kind}: that is {prefix!r} followed by letters, digits, '-' and '_', at"
        f" most {MAX_ID_LENGTH} characters. Nothing was sent to Clerk."
    )
