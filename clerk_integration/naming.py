"""Clerk's rules for the name and slug of an organization, and our rules against deceptive characters.

Each function returns the end of an error message ("is blank", "contains a URL"), or None.
"""

import re
import unicodedata

MAX_NAME_LENGTH = 256
"""Clerk's limit for a name, in characters."""

MAX_SLUG_LENGTH = 256
"""Our limit for a slug, in characters; Clerk documents none."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|\bwww\.", re.IGNORECASE)
_HTML = re.compile(r"<[^>]*>")
_SLUG = re.compile(r"(?=.*[a-z0-9])[a-z0-9-]+")

_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reorder the text after them: a name with U+202E can look like another name."""

_CONTROL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, surrogates, and line and paragraph separators."""


def name_problem(name: str) -> str | None:
    """Return the problem of an organization's name, or None if Clerk accepts the name."""
    forbidden = next(filter(_is_forbidden, name), None)
    if forbidden is not None:
        return f"contains the control character U+{ord(forbidden):04X}"
    if not any(map(_is_visible, name)):
        return "is blank"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters; Clerk allows {MAX_NAME_LENGTH}"
    if _URL.search(name):
        return "contains a URL, which Clerk does not allow"
    if _HTML.search(name):
        return "contains HTML, which Clerk does not allow"
    return None


def slug_problem(slug: str) -> str | None:
    """Return the problem of an organization's slug, or None if Clerk accepts the slug."""
    if not _SLUG.fullmatch(slug):
        return "may contain lower-case letters, digits and dashes only, and needs a letter or digit"
    if len(slug) > MAX_SLUG_LENGTH:
        return f"has {len(slug)} characters; {MAX_SLUG_LENGTH} are allowed"
    return None


def _is_forbidden(character: str) -> bool:
    return character in _BIDI_CONTROLS or unicodedata.category(character) in _CONTROL_CATEGORIES


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ"
