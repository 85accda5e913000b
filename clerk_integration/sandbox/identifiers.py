"""Ids and slugs as Clerk makes them."""

import re
import secrets
import string
from collections.abc import Callable
from random import Random

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 27

IdFactory = Callable[[str], str]


def random_id(prefix: str) -> str:
    """A new id such as `org_2b...`, never the same twice."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def seeded_ids(random: Random) -> IdFactory:
    """A factory of ids that are the same for the same seed."""
    return lambda prefix: prefix + "".join(random.choices(_ALPHABET, k=_LENGTH))


def slugify(name: str) -> str:
    """The slug that a name suggests: lower-case letters, digits and dashes; `org` for a name without any."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "org"
