"""Clerk's ids, checked before they enter a path.

The SDK puts path parameters into URLs unescaped: `a/b?c` would call another endpoint, and an empty
id would call the listing.
"""

import re

from clerk_integration.exceptions import InvalidClerkId

MAX_ID_LENGTH = 255
"""What our columns hold; Clerk's own ids have about 30 characters."""

ORGANIZATION = "org_"
USER = "user_"

_ID_BODY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def is_id(value: object, prefix: str) -> bool:
    """Say whether `value` has the form of an id that starts with one of the prefixes above."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_ID_LENGTH
        and value.startswith(prefix)
        and _ID_BODY.fullmatch(value, len(prefix)) is not None
    )


def validate_org_id(value: object) -> str:
    """Return `value` if it has the form of an organization id (`org_...`); raise InvalidClerkId."""
    return _validated(value, prefix=ORGANIZATION, kind="organization")


def validate_user_id(value: object) -> str:
    """Return `value` if it has the form of a user id (`user_...`); raise InvalidClerkId."""
    return _validated(value, prefix=USER, kind="user")


def _validated(value: object, *, prefix: str, kind: str) -> str:
    if isinstance(value, str) and is_id(value, prefix):
        return value
    raise InvalidClerkId(
        f"{_shortened(value)} is no {kind} id: those start with {prefix!r} and go on with letters, "
        "digits, '-' and '_'. Nothing was sent to Clerk."
    )


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  (one line of a log)
