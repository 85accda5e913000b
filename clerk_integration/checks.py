"""System checks of the settings: cheap, without network, database or Clerk's SDK.

Messages name the setting and the mistake, never the value: most values are secrets. `manage.py check_clerk`
asks Clerk whether it accepts them.
"""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name)
from django.core.exceptions import ImproperlyConfigured

from clerk_integration.conf import clerk_settings, is_rate, is_seconds, is_signing_secret
from clerk_integration.exceptions import ClerkMisconfigured
from clerk_integration.wire.api_url import api_url_error, is_loopback_url

MAX_TIMEOUT_SECONDS = 30.0
MAX_CLOCK_SKEW_SECONDS = 60.0
"""The lifetime of a session token: a larger skew would accept any old one."""

MIN_KEY_LENGTH = 16
"""Characters after `sk_test_` or `sk_live_`; Clerk's keys have more than 40."""

MIN_KEY_CHARACTERS = 5
"""Different characters in a real key; placeholders such as `xxxx` and `...` have fewer."""

LOG_FORMATS = ("console", "json")
UNCONFIGURED_DATABASE = "config.unconfigured_database"
PER_PROCESS_CACHE = "django.core.cache.backends.locmem.LocMemCache"

_SECRET_KEY = re.compile(r"sk_(?:test|live)_(?P<body>[!-~]+)")
_PLACEHOLDER = re.compile(
    r"change.?me|replace.?me|placeholder|example|your.?(?:secret|clerk|key)|key.?here", re.I
)

Condition = Callable[[], object]


def _report(
    kind: type[Error | Warning], code: str, text: str, *, hint: str
) -> Callable[[Condition], Condition]:
    """Register a function as a system check: where it returns something true, the message is reported.

    Text that it returns is the end of the message, after a space.
    """

    def decorate(is_wrong: Condition) -> Condition:
        def check(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
            found = is_wrong()
            ending = f" {found}." if isinstance(found, str) else ""
            return [kind(text + ending, hint=hint, id=f"clerk.{code}")] if found else []

        check.__name__ = is_wrong.__name__
        register(check)
        return is_wrong

    return decorate


NO_KEY = "CLERK_SECRET_KEY is missing or a placeholder."
KEY_HINT = (
    "Copy the secret key from the API keys page of Clerk's dashboard, or start `manage.py clerk_sandbox` and "
    "use the key that it prints."
)


@_report(Warning, "W001", NO_KEY, hint=KEY_HINT)
def key_is_missing_in_development() -> bool:
    return settings.DEBUG and _is_placeholder(clerk_settings.secret_key)


@_report(Error, "E001", NO_KEY, hint=KEY_HINT)
def key_is_missing_in_production() -> bool:
    return not settings.DEBUG and _is_placeholder(clerk_settings.secret_key)


@_report(
    Error,
    "E002",
    "CLERK_SECRET_KEY is not a secret key of Clerk: those start with sk_test_ or sk_live_.",
    hint="A key that starts with pk_ is the publishable one; copy the secret key instead.",
)
def key_is_malformed() -> bool:
    key = clerk_settings.secret_key
    return not _is_placeholder(key) and not _SECRET_KEY.fullmatch(key)


@_report(
    Error,
    "E003",
    "CLERK_JWT_KEY is not an RSA public key in PEM form, so every session token would be refused.",
    hint="Copy the JWKS public key (PEM) from Clerk's dashboard, from -----BEGIN PUBLIC KEY----- to "
    "-----END PUBLIC KEY-----, its line breaks real or as \\n; or unset it to use Clerk's JWKS.",
)
def jwt_key_is_unreadable() -> bool:
    from clerk_integration.tokens.signing_keys import load_jwt_key  # noqa: PLC0415  (loads cryptography)

    try:
        return bool(clerk_settings.jwt_key) and not load_jwt_key(clerk_settings.jwt_key)
    except ClerkMisconfigured:
        return True


@_report(
    Error,
    "E004",
    "CLERK_API_URL",
    hint="Leave CLERK_API_URL unset for Clerk itself (https://api.clerk.com/v1).",
)
def api_url_is_unusable() -> str | None:
    return api_url_error(clerk_settings.api_url)


@_report(
    Error,
    "E005",
    "CLERK_API_URL names this machine, as a local sandbox does, while DEBUG is off.",
    hint="Unset CLERK_API_URL to use Clerk itself. The sandbox is for development only.",
)
def sandbox_is_used_in_production() -> bool:
    return not settings.DEBUG and is_loopback_url(clerk_settings.api_url)


@_report(
    Error,
    "E006",
    "CLERK_PENDING_SESSIONS is neither `refuse` nor `create`.",
    hint="`create` admits pending sessions where a first tenant is created; `refuse` is the default.",
)
def pending_sessions_is_unknown() -> bool:
    return clerk_settings.pending_sessions not in ("refuse", "create")


@_report(
    Error,
    "E007",
    "CLERK_AUTHORIZED_PARTIES holds a value that is not an origin, so no session token can match it.",
    hint="Write scheme, host and port only, without a slash at the end: https://app.example.com",
)
def authorized_party_is_not_an_origin() -> bool:
    return not all(_is_origin(party) for party in clerk_settings.authorized_parties)


@_report(
    Error,
    "E008",
    f"CLERK_TIMEOUT_SECONDS is not between 0 and {MAX_TIMEOUT_SECONDS:.0f}.",
    hint="It is the time in seconds that a request waits for Clerk at most; the default is 5.",
)
def timeout_is_unusable() -> bool:
    timeout = settings.CLERK_TIMEOUT_SECONDS
    return not (is_seconds(timeout) and 0 < float(timeout) <= MAX_TIMEOUT_SECONDS)


@_report(
    Error,
    "E009",
    "CLERK_WEBHOOK_SIGNING_SECRET holds a value that is not a signing secret (whsec_ and base64).",
    hint="Copy the signing secret of the endpoint from the Webhooks page of Clerk's dashboard; separate "
    "several with commas while rotating.",
)
def signing_secret_is_malformed() -> bool:
    return not all(is_signing_secret(secret) for secret in clerk_settings.webhook_signing_secrets)


@_report(
    Error,
    "E010",
    "SECRET_KEY is missing or the public one of development, while DEBUG is off.",
    hint="Generate one: python -c 'import secrets; print(secrets.token_urlsafe(50))'",
)
def django_secret_key_is_public() -> bool:
    return not settings.DEBUG and _is_public_django_key()


@_report(
    Error,
    "E011",
    "DATABASE_URL is not set, while DEBUG is off.",
    hint="Set it to a PostgreSQL server: postgres://USER:PASSWORD@HOST:PORT/NAME",
)
def database_is_not_configured() -> bool:
    return not settings.DEBUG and settings.DATABASES["default"].get("ENGINE") == UNCONFIGURED_DATABASE


@_report(
    Error,
    "E012",
    "CLERK_SYNC_MAX_AGE_SECONDS is not a number of seconds.",
    hint="It is how long a user's list counts as fresh; 0 asks Clerk every time; the default is 60.",
)
def sync_max_age_is_unusable() -> bool:
    return not is_seconds(settings.CLERK_SYNC_MAX_AGE_SECONDS)


@_report(
    Error,
    "E013",
    "CLERK_RATE_LIMIT is not a positive number of requests.",
    hint="It is how many requests in 10 seconds commands and workers may send together; unset it for "
    "Clerk's documented limit: 100 for a test key, 1000 for a live one.",
)
def rate_limit_is_unusable() -> bool:
    return settings.CLERK_RATE_LIMIT != "" and not is_rate(settings.CLERK_RATE_LIMIT)


@_report(
    Error,
    "E014",
    f"CLERK_CLOCK_SKEW_SECONDS is not a number of seconds from 0 to {MAX_CLOCK_SKEW_SECONDS:.0f}.",
    hint="It is the difference between Clerk's clock and this machine's that session tokens may show; the "
    "default is 5. Correct the clock instead, best by NTP.",
)
def clock_skew_is_unusable() -> bool:
    skew = settings.CLERK_CLOCK_SKEW_SECONDS
    return not (is_seconds(skew) and float(skew) <= MAX_CLOCK_SKEW_SECONDS)


@_report(
    Warning,
    "W002",
    "CLERK_ISSUER is not set, so the issuer of session tokens is not checked.",
    hint="Set it to the Frontend API URL of your instance, such as https://clerk.example.com",
)
def issuer_is_not_pinned() -> bool:
    return not settings.DEBUG and not clerk_settings.issuer


@_report(
    Warning,
    "W003",
    "The cache is per process: with several workers, throttles allow that many times more.",
    hint="Set CACHE_URL to a shared cache, such as rediscache://HOST:6379/0, or run one worker.",
)
def cache_is_per_process() -> bool:
    return not settings.DEBUG and settings.CACHES["default"].get("BACKEND") == PER_PROCESS_CACHE


@_report(
    Warning,
    "W004",
    "LOG_LEVEL or LOG_FORMAT is unknown; INFO or console is used instead.",
    hint="Levels are DEBUG, INFO, WARNING, ERROR and CRITICAL; formats are console and json.",
)
def logging_is_unknown() -> bool:
    is_known_level = settings.LOG_LEVEL.upper() in logging.getLevelNamesMapping()
    return not is_known_level or settings.LOG_FORMAT not in LOG_FORMATS


def _is_placeholder(key: str) -> bool:
    """Return whether a secret key is missing or was never filled in."""
    form = _SECRET_KEY.fullmatch(key)
    body = form["body"] if form else key
    is_too_simple = len(body) < MIN_KEY_LENGTH or len(set(body)) < MIN_KEY_CHARACTERS
    return is_too_simple or _PLACEHOLDER.search(body) is not None


def _is_origin(party: str) -> bool:
    try:
        url = urlsplit(party)
    except ValueError:
        return False
    return bool(url.netloc) and party == f"{url.scheme}://{url.netloc}"


def _is_public_django_key() -> bool:
    try:
        return str(settings.SECRET_KEY).startswith(("insecure", "django-insecure"))
    except ImproperlyConfigured:  # it is empty
        return True
