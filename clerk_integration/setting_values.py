"""Decide whether the values of settings are well-formed, for the system checks in `checks`."""

import logging
import re
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from clerk_integration.conf import is_seconds, setting
from clerk_integration.exceptions import ClerkMisconfigured

MIN_KEY_LENGTH = 16
"""Characters after `sk_test_` or `sk_live_`; Clerk's keys have more than 40."""

MIN_KEY_CHARACTERS = 5
"""Different characters in a real key; placeholders such as `xxxx` and `...` have fewer."""

LOG_FORMATS = ("console", "json")

_SECRET_KEY = re.compile(r"sk_(?:test|live)_(?P<body>[!-~]+)")
_PLACEHOLDER = re.compile(
    r"change.?me|replace.?me|placeholder|example|your.?(?:secret|clerk|key)|key.?here", re.I
)


def is_placeholder(key: str) -> bool:
    """Return whether a secret key is empty or still a placeholder."""
    form = _SECRET_KEY.fullmatch(key)
    body = form["body"] if form else key
    is_too_simple = len(body) < MIN_KEY_LENGTH or len(set(body)) < MIN_KEY_CHARACTERS
    return is_too_simple or _PLACEHOLDER.search(body) is not None


def is_malformed_key(key: str) -> bool:
    """Return whether a key is neither a placeholder nor in the form of a secret key of Clerk."""
    return not is_placeholder(key) and not _SECRET_KEY.fullmatch(key)


def is_unreadable_jwt_key(pem: str) -> bool:
    """Return whether the setting is neither empty nor an RSA public key in PEM form."""
    if not pem:
        return False
    from clerk_integration.tokens.signing_keys import load_jwt_key  # noqa: PLC0415  (loads cryptography)

    try:
        return not load_jwt_key(pem)
    except ClerkMisconfigured:
        return True


def is_origin(party: str) -> bool:
    """Return whether the text is scheme, host and port of a URL, and nothing else."""
    try:
        url = urlsplit(party)
    except ValueError:
        return False
    return bool(url.netloc) and party == f"{url.scheme}://{url.netloc}"


def is_up_to(value: object, maximum: float) -> bool:
    """Return whether a setting is a number of seconds, from zero to `maximum`."""
    return is_seconds(value) and float(str(value)) <= maximum


def is_known_logging() -> bool:
    """Return whether LOG_LEVEL and LOG_FORMAT are known."""
    return (
        str(setting("LOG_LEVEL")).upper() in logging.getLevelNamesMapping()
        and setting("LOG_FORMAT") in LOG_FORMATS
    )


def is_public_django_key() -> bool:
    """Return whether SECRET_KEY is missing, or one that others know."""
    try:
        return str(settings.SECRET_KEY).startswith(("insecure", "django-insecure"))
    except ImproperlyConfigured:  # the setting is empty
        return True
