"""Clerk's settings. Each access reads the setting again, so tests and reloads see the current value."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings

PAGE_SIZE = 500
"""Records that a listing asks for at once: Clerk's maximum (its default is 10)."""

JOB_TIMEOUT_SECONDS = 30.0
"""Deadline of one service call in a command or job, where no browser waits."""

JWKS_TIMEOUT_SECONDS = 3.0
"""Ceiling for fetching the signing keys, for which every request of a process may be waiting."""

LIVE_RATE_LIMIT = 1000.0
TEST_RATE_LIMIT = 100.0
"""Requests in ten seconds that Clerk allows an instance, as documented."""

DEFAULT_TIMEOUT_SECONDS = 5.0
DEFAULT_CLOCK_SKEW_SECONDS = 5.0
DEFAULT_MAX_WAITING = 4
DEFAULT_SYNC_MAX_AGE_SECONDS = 60.0
DEFAULT_SYNC_ALERT_AGE_HOURS = 26.0
DEFAULT_HISTORY_DAYS = 730

STALLED_WORKER_SECONDS = 30.0
"""Procrastinate's default."""

REQUEST_LIMITS = {
    "TENANT_LIST_LIMIT": "120/minute",
    "TENANT_CREATE_LIMIT": "20/hour",
    "TENANT_SYNC_LIMIT": "10/minute",
    "ADMIN_LOGIN_LIMIT": "10/hour",
    "ADMIN_LOGIN_ADDRESS_LIMIT": "100/hour",
}
"""Default numbers of requests that one caller may send to the API, and of failed logins to the admin."""

DEFAULTS: dict[str, Any] = {
    "CLERK_SECRET_KEY": "",
    "CLERK_API_URL": "https://api.clerk.com/v1",
    "CLERK_JWT_KEY": "",
    "CLERK_ISSUER": "",
    "CLERK_AUTHORIZED_PARTIES": (),
    "CLERK_AUDIENCE": (),
    "CLERK_CLOCK_SKEW_SECONDS": DEFAULT_CLOCK_SKEW_SECONDS,
    "CLERK_INSTANCE_ID": "",
    "CLERK_WEBHOOK_SIGNING_SECRET": (),
    "CLERK_TIMEOUT_SECONDS": DEFAULT_TIMEOUT_SECONDS,
    "CLERK_RATE_LIMIT": "",
    "CLERK_MAX_WAITING": "",
    "CLERK_ACCEPT_API_KEYS": False,
    "CLERK_PENDING_SESSIONS": "refuse",
    "CLERK_SYNC_MAX_AGE_SECONDS": DEFAULT_SYNC_MAX_AGE_SECONDS,
    "TENANT_HISTORY_DAYS": DEFAULT_HISTORY_DAYS,
    "SYNC_ALERT_WEBHOOK_URL": "",
    "SYNC_ALERT_AGE_HOURS": DEFAULT_SYNC_ALERT_AGE_HOURS,
    "METRICS_TOKEN": "",
    "SENTRY_DSN": "",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "console",
    **REQUEST_LIMITS,
}
"""Values of settings that a project does not have; a project that installs the apps needs none of them."""

UNLIMITED = "none"

MAX_SECONDS = 10**9
"""Much longer times do not fit into the times of Python and PostgreSQL."""

MAX_TOKEN_BYTES = 16 * 1024
MIN_SIGNING_SECRET_BYTES = 16


MAX_DAYS = 100_000
"""Days before now that PostgreSQL and Python can still express as a date."""

_DAYS = re.compile(r"[0-9]{1,6}")
_TRUTH = {
    **dict.fromkeys(("true", "on", "ok", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "off", "no", "n", "0", ""), False),
}
_REQUEST_LIMIT = re.compile(r"(?P<number>[1-9][0-9]{0,8})/(?P<period>second|minute|hour|day)")


class SessionTokenSettings(NamedTuple):
    """The requirements that a session token must meet, besides a valid signature."""

    issuer: str
    """Accepted `iss`; empty to accept any `iss`."""

    authorized_parties: frozenset[str]
    """Accepted `azp` origins; empty to accept any `azp`."""

    audience: frozenset[str]
    """Accepted values of `aud`, one of which is required; empty to accept tokens with any or no `aud`."""

    clock_skew_seconds: float
    """Accepted difference between Clerk's clock and ours."""


class ClerkSettings:
    """One property per setting."""

    @property
    def secret_key(self) -> str:
        """Backend API key (`sk_test_...` or `sk_live_...`); empty when unset."""
        return str(setting("CLERK_SECRET_KEY")).strip()

    @property
    def api_url(self) -> str:
        """Base URL of the Backend API, with `/v1` and without a trailing slash."""
        return str(setting("CLERK_API_URL")).strip().rstrip("/")

    @property
    def jwt_key(self) -> str:
        """Public key for session tokens, as PEM; empty if the keys come from Clerk's JWKS.

        Environment files often contain the line breaks of a PEM as the two characters `\n`.
        """
        return _pem(str(setting("CLERK_JWT_KEY")))

    @property
    def session_tokens(self) -> "SessionTokenSettings":
        """Settings for the verification of session tokens; computed again only after one has changed."""
        return _session_token_settings(
            setting("CLERK_ISSUER"),
            _texts(setting("CLERK_AUTHORIZED_PARTIES")),
            _texts(setting("CLERK_AUDIENCE")),
            setting("CLERK_CLOCK_SKEW_SECONDS"),
        )

    @property
    def instance_id(self) -> str:
        """Id of the Clerk instance (`ins_...`); empty when not configured."""
        return str(setting("CLERK_INSTANCE_ID")).strip()

    @property
    def webhook_signing_secrets(self) -> tuple[str, ...]:
        """Accepted webhook signing secrets; several during a rotation."""
        secrets = _texts(setting("CLERK_WEBHOOK_SIGNING_SECRET"))
        return tuple(secret.strip() for secret in secrets if secret.strip())

    @property
    def timeout_seconds(self) -> float:
        """Deadline in seconds for one service call in a web request, including all pages it reads."""
        return _seconds(setting("CLERK_TIMEOUT_SECONDS"), default=DEFAULT_TIMEOUT_SECONDS)

    @property
    def max_waiting(self) -> int:
        """Threads of a web process that may wait for Clerk at once; half of its threads is right."""
        configured = setting("CLERK_MAX_WAITING")
        return int(configured) if is_thread_count(configured) else DEFAULT_MAX_WAITING

    @property
    def sync_max_age_seconds(self) -> float:
        """Age in seconds up to which a complete listing of a user's memberships counts as fresh."""
        return _seconds(setting("CLERK_SYNC_MAX_AGE_SECONDS"), default=DEFAULT_SYNC_MAX_AGE_SECONDS)

    @property
    def sync_alert_age(self) -> timedelta:
        """Age of the last complete full sync above which an alert is sent."""
        hours = setting("SYNC_ALERT_AGE_HOURS")
        return timedelta(hours=float(hours) if is_rate(hours) else DEFAULT_SYNC_ALERT_AGE_HOURS)

    @property
    def rate_limit(self) -> float:
        """Requests that all commands and workers together may send in ten seconds.

        If unset: Clerk's documented limit, 1000 for a live key and 100 for a test key.
        """
        if is_rate(setting("CLERK_RATE_LIMIT")):
            return float(setting("CLERK_RATE_LIMIT"))
        return LIVE_RATE_LIMIT if self.secret_key.startswith("sk_live_") else TEST_RATE_LIMIT

    @property
    def accept_api_keys(self) -> bool:
        """Whether Clerk's API keys are accepted instead of session tokens; not if the value is malformed."""
        return truth_of(setting("CLERK_ACCEPT_API_KEYS")) is True

    @property
    def pending_sessions(self) -> str:
        """`refuse`, or `create` to accept pending sessions on the endpoints create and me/get-tenants."""
        return str(setting("CLERK_PENDING_SESSIONS")).strip()


clerk_settings = ClerkSettings()


def setting(name: str) -> Any:
    """Return the setting, or its default if the project does not have it or has None."""
    value = getattr(settings, name, None)
    return DEFAULTS[name] if value is None else value


def stalled_worker_seconds() -> float:
    """Return the time without a heartbeat after which Procrastinate takes a worker for dead."""
    options: Mapping[str, Any] = getattr(settings, "PROCRASTINATE_WORKER_DEFAULTS", {})
    return _seconds(options.get("stalled_worker_timeout"), default=STALLED_WORKER_SECONDS)


def is_seconds(value: Any) -> bool:
    """Return whether a setting is a number of seconds, from zero to MAX_SECONDS."""
    try:
        return 0 <= float(value) <= MAX_SECONDS
    except (TypeError, ValueError):
        return False


def is_rate(value: Any) -> bool:
    """Return whether a setting is a number of requests above zero."""
    return is_seconds(value) and float(value) > 0


def is_thread_count(value: Any) -> bool:
    """Return whether a setting is a whole number of threads, at least one."""
    try:
        return int(value) >= 1
    except (TypeError, ValueError):
        return False


def truth_of(value: object) -> bool | None:
    """Return the truth value of a setting, which may be a text such as `true` or `off`; None if malformed."""
    return value if isinstance(value, bool) else _TRUTH.get(str(value).strip().lower())


def is_days(value: object) -> bool:
    """Return whether a setting is a whole number of days, from zero to MAX_DAYS."""
    text = str(value).strip()
    return _DAYS.fullmatch(text) is not None and int(text) <= MAX_DAYS


def is_texts(value: object) -> bool:
    """Return whether a setting is a text, or a list of texts."""
    return isinstance(value, str) or (
        isinstance(value, list | tuple | set | frozenset) and all(isinstance(one, str) for one in value)
    )


def request_limit(name: str) -> tuple[int, str] | None:
    """Return the number of requests and the period (`minute`) of a limit; None if there is no limit.

    A malformed limit counts as unset; a system check reports the mistake.
    """
    text = str(setting(name)).strip()
    if text == UNLIMITED:
        return None
    match = _REQUEST_LIMIT.fullmatch(text) or _REQUEST_LIMIT.fullmatch(REQUEST_LIMITS[name])
    assert match is not None  # noqa: S101  (the defaults match)
    return int(match["number"]), match["period"]


def is_request_limit(value: object) -> bool:
    """Return whether a setting is a number of requests in a period, such as `120/minute`, or `none`."""
    return value == UNLIMITED or _REQUEST_LIMIT.fullmatch(str(value)) is not None


def is_signing_secret(secret: str) -> bool:
    """Return whether `secret` has the form of a webhook signing secret: `whsec_` and base64."""
    encoded = secret.removeprefix("whsec_")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    return encoded != secret and len(decoded) >= MIN_SIGNING_SECRET_BYTES


@lru_cache(maxsize=4)
def _session_token_settings(
    issuer: object, parties: tuple[str, ...], audience: tuple[str, ...], skew: object
) -> SessionTokenSettings:
    return SessionTokenSettings(
        issuer=str(issuer).strip(),
        authorized_parties=frozenset(party.strip() for party in parties if party.strip()),
        audience=frozenset(name.strip() for name in audience if name.strip()),
        clock_skew_seconds=_seconds(skew, default=DEFAULT_CLOCK_SKEW_SECONDS),
    )


@lru_cache(maxsize=4)
def _pem(text: str) -> str:
    return text.replace("\\n", "\n").strip()


def _texts(value: Any) -> tuple[str, ...]:
    """Return the texts of a setting: a list, or one text with commas.

    Any other value becomes one text, so that it admits nothing; a system check reports the mistake.
    """
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(map(str, value))
    return tuple(str(value).split(","))


def _seconds(value: Any, *, default: float) -> float:
    """Return a setting in seconds. A malformed value counts as unset; a system check reports the mistake."""
    return float(value) if is_seconds(value) else default
