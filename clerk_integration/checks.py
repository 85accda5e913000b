"""System checks of the settings: cheap, without network, database or Clerk's SDK.

Messages name the setting and what is wrong with it, never its value: most of them are secrets.
Whether Clerk accepts the values is told by `manage.py check_clerk`.
"""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name)
from django.core.exceptions import ImproperlyConfigured

from clerk_integration.conf import clerk_settings, is_rate, is_seconds
from clerk_integration.exceptions import ClerkMisconfigured
from clerk_integration.wire.api_url import is_on_this_machine, wrong_with_api_url

Rule = Callable[..., list[CheckMessage]]

MAX_TIMEOUT_SECONDS = 30.0
MIN_KEY_LENGTH = 16
"""Characters after `sk_test_` or `sk_live_`; Clerk's keys have more than 40."""

MIN_KEY_CHARACTERS = 5
"""Different characters in a key: `xxxx` and `...` are none."""

MIN_SIGNING_SECRET_BYTES = 16
PENDING_SESSIONS = ("refuse", "create")
LOG_FORMATS = ("console", "json")
UNCONFIGURED_DATABASE = "config.unconfigured_database"
PER_PROCESS_CACHE = "django.core.cache.backends.locmem.LocMemCache"

_SECRET_KEY = re.compile(r"sk_(?:test|live)_(?P<body>[!-~]+)")
_PLACEHOLDER = re.compile(
    r"change.?me|replace.?me|placeholder|example|your.?(?:secret|clerk|key)|key.?here", re.I
)


def _rule(check: Callable[[], CheckMessage | None]) -> Rule:
    """Register `check`, which returns what is wrong with the settings or None, as a system check."""

    def run(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
        message = check()
        return [] if message is None else [message]

    run.__name__, run.__doc__ = check.__name__, check.__doc__
    register(run)
    return run


@_rule
def check_secret_key_is_set() -> CheckMessage | None:
    """Without a real key nothing reaches Clerk; development may do without."""
    if clerk_settings.secret_key and not _is_placeholder(clerk_settings.secret_key):
        return None
    kind, check_id = (Warning, "clerk.W001") if settings.DEBUG else (Error, "clerk.E001")
    return kind(
        "CLERK_SECRET_KEY is missing or a placeholder.",
        hint="Copy the secret key from the API keys page of Clerk's dashboard, or start "
        "`manage.py clerk_sandbox` and use the key that it prints.",
        id=check_id,
    )


@_rule
def check_secret_key_form() -> CheckMessage | None:
    """A publishable key, or one with its beginning cut off, is refused by Clerk."""
    key = clerk_settings.secret_key
    if not key or _is_placeholder(key) or _SECRET_KEY.fullmatch(key):
        return None
    return Error(
        "CLERK_SECRET_KEY is no secret key of Clerk: those start with sk_test_ or sk_live_.",
        hint="A key that starts with pk_ is the publishable one; copy the secret key instead.",
        id="clerk.E002",
    )


@_rule
def check_jwt_key() -> CheckMessage | None:
    """A key that cannot be read would refuse every session token."""
    if not clerk_settings.jwt_key or _is_readable_jwt_key(clerk_settings.jwt_key):
        return None
    return Error(
        "CLERK_JWT_KEY is no RSA public key in PEM form.",
        hint="Copy the JWKS public key (PEM) from Clerk's dashboard, from -----BEGIN PUBLIC KEY----- to "
        "-----END PUBLIC KEY-----, its line breaks real or as \\n; or unset it to use Clerk's JWKS.",
        id="clerk.E003",
    )


@_rule
def check_api_url() -> CheckMessage | None:
    """The secret key is sent to this address with every call."""
    wrong = wrong_with_api_url(clerk_settings.api_url)
    if wrong is None:
        return None
    hint = "Leave CLERK_API_URL unset for Clerk itself (https://api.clerk.com/v1)."
    return Error(f"CLERK_API_URL {wrong}.", hint=hint, id="clerk.E004")


@_rule
def check_sandbox_is_not_in_production() -> CheckMessage | None:
    """The sandbox signs tokens for whoever asks it."""
    if settings.DEBUG or not is_on_this_machine(clerk_settings.api_url):
        return None
    return Error(
        "CLERK_API_URL names this machine, as a local sandbox does, while DEBUG is off.",
        hint="Unset CLERK_API_URL to use Clerk itself; the sandbox is for development only.",
        id="clerk.E005",
    )


@_rule
def check_pending_sessions() -> CheckMessage | None:
    """An unknown value must not open anything by accident."""
    if clerk_settings.pending_sessions in PENDING_SESSIONS:
        return None
    return Error(
        "CLERK_PENDING_SESSIONS is neither `refuse` nor `create`.",
        hint="`create` admits pending sessions where a first tenant is made; `refuse` is the default.",
        id="clerk.E006",
    )


@_rule
def check_authorized_parties() -> CheckMessage | None:
    """`azp` is compared letter by letter, so that an address that is no bare origin refuses everyone."""
    if all(_is_origin(party) for party in clerk_settings.authorized_parties):
        return None
    return Error(
        "CLERK_AUTHORIZED_PARTIES holds a value that is no origin, so that no session token can match it.",
        hint="Write scheme, host and port only, without a slash at the end: https://app.example.com",
        id="clerk.E007",
    )


@_rule
def check_timeout() -> CheckMessage | None:
    """No deadline holds a worker for ever; none of 0 seconds can be met."""
    if is_seconds(settings.CLERK_TIMEOUT_SECONDS) and (
        0 < clerk_settings.timeout_seconds <= MAX_TIMEOUT_SECONDS
    ):
        return None
    return Error(
        f"CLERK_TIMEOUT_SECONDS is not between 0 and {MAX_TIMEOUT_SECONDS:.0f}.",
        hint="It is the time a request waits for Clerk at most, in seconds; the default is 5.",
        id="clerk.E008",
    )


@_rule
def check_sync_max_age() -> CheckMessage | None:
    """What cannot be read as seconds would silently count as unset."""
    if is_seconds(settings.CLERK_SYNC_MAX_AGE_SECONDS):
        return None
    return Error(
        "CLERK_SYNC_MAX_AGE_SECONDS is no number of seconds.",
        hint="It is how long a user's list counts as fresh; 0 asks Clerk every time; the default is 60.",
        id="clerk.E012",
    )


@_rule
def check_rate_limit() -> CheckMessage | None:
    """What cannot be read as a limit would silently count as unset."""
    if settings.CLERK_RATE_LIMIT == "" or is_rate(settings.CLERK_RATE_LIMIT):
        return None
    return Error(
        "CLERK_RATE_LIMIT is no positive number of requests.",
        hint="It is how many requests in 10 seconds migrations and workers may send together; unset it for "
        "Clerk's documented limit: 100 for a test key, 1000 for a live one.",
        id="clerk.E013",
    )


@_rule
def check_webhook_signing_secrets() -> CheckMessage | None:
    """With a secret that cannot be read every webhook would be refused."""
    if all(is_webhook_signing_secret(secret) for secret in clerk_settings.webhook_signing_secrets):
        return None
    return Error(
        "CLERK_WEBHOOK_SIGNING_SECRET holds a value that is no signing secret: whsec_ and base64.",
        hint="Copy the signing secret of the endpoint from the Webhooks page of Clerk's dashboard; "
        "separate several with commas while rotating.",
        id="clerk.E009",
    )


@_rule
def check_issuer_is_pinned() -> CheckMessage | None:
    """Without it, a token is accepted by its signature alone."""
    if settings.DEBUG or clerk_settings.issuer:
        return None
    return Warning(
        "CLERK_ISSUER is not set, so that the issuer of session tokens is not checked.",
        hint="Set it to the Frontend API URL of your instance, such as https://clerk.example.com",
        id="clerk.W002",
    )


@_rule
def check_django_secret_key() -> CheckMessage | None:
    """Sessions and the admin are signed with it."""
    if settings.DEBUG or not _django_secret_key().startswith(("insecure", "django-insecure")):
        return None
    return Error(
        "SECRET_KEY is missing or the one of development, while DEBUG is off.",
        hint="Generate one: python -c 'import secrets; print(secrets.token_urlsafe(50))'",
        id="clerk.E010",
    )


@_rule
def check_database_is_configured() -> CheckMessage | None:
    """The embedded PostgreSQL serves development only."""
    if settings.DEBUG or settings.DATABASES["default"].get("ENGINE") != UNCONFIGURED_DATABASE:
        return None
    return Error(
        "DATABASE_URL is not set, while DEBUG is off.",
        hint="Set it to a PostgreSQL server: postgres://USER:PASSWORD@HOST:PORT/NAME",
        id="clerk.E011",
    )


@_rule
def check_cache_is_shared() -> CheckMessage | None:
    """Each process would count throttles by itself."""
    if settings.DEBUG or settings.CACHES["default"].get("BACKEND") != PER_PROCESS_CACHE:
        return None
    return Warning(
        "The cache is per process: with several workers, throttles allow that many times more.",
        hint="Set CACHE_URL to a shared cache, such as rediscache://HOST:6379/0, or run one worker.",
        id="clerk.W003",
    )


@_rule
def check_logging() -> CheckMessage | None:
    """Somebody who asks for DEBUG and misspells it waits for lines that never come."""
    if settings.LOG_LEVEL.upper() in logging.getLevelNamesMapping() and settings.LOG_FORMAT in LOG_FORMATS:
        return None
    return Warning(
        "LOG_LEVEL or LOG_FORMAT is not known and counts as INFO, or console.",
        hint="Levels are DEBUG, INFO, WARNING, ERROR and CRITICAL; formats are console and json.",
        id="clerk.W004",
    )


def is_webhook_signing_secret(secret: str) -> bool:
    """Return whether `secret` has the form in which Clerk shows them: whsec_ and base64."""
    encoded = secret.removeprefix("whsec_")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    return encoded != secret and len(decoded) >= MIN_SIGNING_SECRET_BYTES


def _is_placeholder(key: str) -> bool:
    form = _SECRET_KEY.fullmatch(key)
    body = form["body"] if form else key
    return (
        len(body) < MIN_KEY_LENGTH
        or len(set(body)) < MIN_KEY_CHARACTERS
        or _PLACEHOLDER.search(body) is not None
    )


def _is_readable_jwt_key(pem: str) -> bool:
    from clerk_integration.tokens.signing_keys import load_jwt_key  # noqa: PLC0415  (loads cryptography)

    try:
        load_jwt_key(pem)
    except ClerkMisconfigured:
        return False
    return True


def _is_origin(party: str) -> bool:
    try:
        url = urlsplit(party)
    except ValueError:
        return False
    return bool(url.netloc) and party == f"{url.scheme}://{url.netloc}"


def _django_secret_key() -> str:
    try:
        return str(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return "insecure: empty"
