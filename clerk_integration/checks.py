"""System checks of the settings. They use no network, no database and not Clerk's SDK.

Messages name the setting and the mistake, but never the value, because most values are secrets. `manage.py
check_clerk` checks whether Clerk accepts the values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name)

from clerk_integration.conf import (
    MAX_DAYS,
    REQUEST_LIMITS,
    clerk_settings,
    is_days,
    is_rate,
    is_request_limit,
    is_seconds,
    is_signing_secret,
    is_texts,
    is_thread_count,
    setting,
    truth_of,
)
from clerk_integration.setting_values import (
    is_known_logging,
    is_malformed_key,
    is_origin,
    is_placeholder,
    is_public_django_key,
    is_unreadable_jwt_key,
    is_up_to,
)
from clerk_integration.wire.api_url import api_url_error, is_http_url, is_loopback_url

MAX_TIMEOUT_SECONDS = 30.0
MAX_CLOCK_SKEW_SECONDS = 60.0
"""The lifetime of a session token: a larger tolerance would more than double it."""

LISTS = ("CLERK_AUTHORIZED_PARTIES", "CLERK_AUDIENCE", "CLERK_WEBHOOK_SIGNING_SECRET")

UNCONFIGURED_DATABASE = "config.unconfigured_database"


@dataclass(frozen=True, slots=True)
class Rule:
    """A possible mistake in the settings, reported if `is_wrong` returns a true value.

    If `is_wrong` returns text, the message ends with this text. A rule with `deploy` runs only with `check
    --deploy`.
    """

    kind: type[Error | Warning]
    code: str
    message: str
    hint: str
    is_wrong: Callable[[], object]
    deploy: bool = False

    def messages(self) -> list[CheckMessage]:
        found = self.is_wrong()
        ending = f" {found}." if isinstance(found, str) else ""
        return [self.kind(self.message + ending, hint=self.hint, id=f"clerk.{self.code}")] if found else []


@register
def check_settings(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report every rule that the settings break."""
    return [message for rule in RULES if not rule.deploy for message in rule.messages()]


@register(deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report every deployment rule that the settings break."""
    return [message for rule in RULES if rule.deploy for message in rule.messages()]


NO_KEY = (
    "CLERK_SECRET_KEY is missing or a placeholder.",
    "Copy the secret key from the API keys page of Clerk's dashboard, or start `manage.py clerk_sandbox` and "
    "use the key that it prints.",
)
PUBLIC_DJANGO_KEY = (
    "SECRET_KEY is missing or the public one of development.",
    "Generate one: python -c 'import secrets; print(secrets.token_urlsafe(50))'",
)

RULES = (
    Rule(Warning, "W001", *NO_KEY, lambda: settings.DEBUG and is_placeholder(clerk_settings.secret_key)),
    Rule(Error, "E001", *NO_KEY, lambda: not settings.DEBUG and is_placeholder(clerk_settings.secret_key)),
    Rule(
        Error,
        "E002",
        "CLERK_SECRET_KEY is not a secret key of Clerk: those start with sk_test_ or sk_live_.",
        "A key that starts with pk_ is the publishable one; copy the secret key instead.",
        lambda: is_malformed_key(clerk_settings.secret_key),
    ),
    Rule(
        Error,
        "E003",
        "CLERK_JWT_KEY is not an RSA public key in PEM form, so every session token would be refused.",
        "Copy the JWKS public key (PEM) from Clerk's dashboard, from -----BEGIN PUBLIC KEY----- to "
        "-----END PUBLIC KEY-----, its line breaks real or as \\n; or unset it to use Clerk's JWKS.",
        lambda: is_unreadable_jwt_key(clerk_settings.jwt_key),
    ),
    Rule(
        Error,
        "E004",
        "CLERK_API_URL",
        "Leave CLERK_API_URL unset for Clerk itself (https://api.clerk.com/v1).",
        lambda: api_url_error(clerk_settings.api_url),
    ),
    Rule(
        Error,
        "E005",
        "CLERK_API_URL names this machine, as a local sandbox does, while DEBUG is off.",
        "Unset CLERK_API_URL to use Clerk itself. The sandbox is for development only.",
        lambda: not settings.DEBUG and is_loopback_url(clerk_settings.api_url),
    ),
    Rule(
        Error,
        "E006",
        "CLERK_PENDING_SESSIONS is neither `refuse` nor `create`.",
        "`create` admits pending sessions where a first tenant is created; `refuse` is the default.",
        lambda: clerk_settings.pending_sessions not in ("refuse", "create"),
    ),
    Rule(
        Error,
        "E007",
        "CLERK_AUTHORIZED_PARTIES holds a value that is not an origin, so no session token can match it.",
        "Write scheme, host and port only, without a slash at the end: https://app.example.com",
        lambda: not all(is_origin(party) for party in clerk_settings.session_tokens.authorized_parties),
    ),
    Rule(
        Error,
        "E008",
        f"CLERK_TIMEOUT_SECONDS is not between 0 and {MAX_TIMEOUT_SECONDS:.0f}.",
        "It is the time in seconds that a request waits for Clerk at most; the default is 5.",
        lambda: (
            not is_up_to(setting("CLERK_TIMEOUT_SECONDS"), MAX_TIMEOUT_SECONDS)
            or not clerk_settings.timeout_seconds
        ),
    ),
    Rule(
        Error,
        "E009",
        "CLERK_WEBHOOK_SIGNING_SECRET holds a value that is not a signing secret (whsec_ and base64).",
        "Copy the signing secret of the endpoint from the Webhooks page of Clerk's dashboard; separate "
        "several with commas while rotating.",
        lambda: not all(is_signing_secret(secret) for secret in clerk_settings.webhook_signing_secrets),
    ),
    Rule(Error, "E010", *PUBLIC_DJANGO_KEY, lambda: not settings.DEBUG and is_public_django_key()),
    Rule(
        Error,
        "E011",
        "DATABASE_URL is not set, while DEBUG is off.",
        "Set it to a PostgreSQL server: postgres://USER:PASSWORD@HOST:PORT/NAME",
        lambda: not settings.DEBUG and settings.DATABASES["default"].get("ENGINE") == UNCONFIGURED_DATABASE,
    ),
    Rule(
        Error,
        "E012",
        "CLERK_SYNC_MAX_AGE_SECONDS is not a number of seconds.",
        "It is how long a user's list counts as fresh; 0 asks Clerk every time; the default is 60.",
        lambda: not is_seconds(setting("CLERK_SYNC_MAX_AGE_SECONDS")),
    ),
    Rule(
        Error,
        "E013",
        "CLERK_RATE_LIMIT is not a positive number of requests.",
        "It is how many requests in 10 seconds commands and workers may send together; unset it for Clerk's "
        "documented limit: 100 for a test key, 1000 for a live one.",
        lambda: setting("CLERK_RATE_LIMIT") != "" and not is_rate(setting("CLERK_RATE_LIMIT")),
    ),
    Rule(
        Error,
        "E018",
        "CLERK_MAX_WAITING is not a number of threads of 1 or more.",
        "It is how many threads of a web process may wait for Clerk at once; unset it for half of them.",
        lambda: setting("CLERK_MAX_WAITING") != "" and not is_thread_count(setting("CLERK_MAX_WAITING")),
    ),
    Rule(
        Error,
        "E019",
        "Not a limit of requests:",
        "Write a number of requests and second, minute, hour or day, such as 120/minute; `none` for no "
        "limit.",
        lambda: ", ".join(name for name in REQUEST_LIMITS if not is_request_limit(setting(name))),
    ),
    Rule(
        Error,
        "E022",
        "CLERK_ACCEPT_API_KEYS is neither true nor false, so API keys are refused.",
        "Write True or False, or one of the texts `true` and `false`.",
        lambda: truth_of(setting("CLERK_ACCEPT_API_KEYS")) is None,
    ),
    Rule(
        Error,
        "E023",
        f"TENANT_HISTORY_DAYS is not a number of days from 0 to {MAX_DAYS:,}, so no history is deleted.",
        "It is how long the history of tenants is kept; 0 keeps it for ever; the default is 730.",
        lambda: not is_days(setting("TENANT_HISTORY_DAYS")),
    ),
    Rule(
        Error,
        "E024",
        "Not a list of texts:",
        "Write a list such as ['https://app.example.com'], or one text with commas.",
        lambda: ", ".join(name for name in LISTS if not is_texts(setting(name))),
    ),
    Rule(
        Error,
        "E014",
        f"CLERK_CLOCK_SKEW_SECONDS is not a number of seconds from 0 to {MAX_CLOCK_SKEW_SECONDS:.0f}.",
        "It is the largest accepted difference between Clerk's clock and the clock of this machine; the "
        "default is 5. Correct the clock instead, best by NTP.",
        lambda: not is_up_to(setting("CLERK_CLOCK_SKEW_SECONDS"), MAX_CLOCK_SKEW_SECONDS),
    ),
    Rule(
        Error,
        "E020",
        "SYNC_ALERT_WEBHOOK_URL is not an http or https URL.",
        "Copy the URL of an incoming webhook of Slack, or of a service that accepts the same JSON; unset it"
        " to send no alerts.",
        lambda: setting("SYNC_ALERT_WEBHOOK_URL") and not is_http_url(setting("SYNC_ALERT_WEBHOOK_URL")),
    ),
    Rule(
        Error,
        "E021",
        "SYNC_ALERT_AGE_HOURS is not a positive number of hours.",
        "An alert is sent if no full sync was completed for that long; the default is 26.",
        lambda: not is_rate(setting("SYNC_ALERT_AGE_HOURS")),
    ),
    Rule(
        Warning,
        "W002",
        "CLERK_ISSUER is not set, so the issuer of session tokens is not checked.",
        "Set it to the Frontend API URL of your instance, such as https://clerk.example.com",
        lambda: not settings.DEBUG and not clerk_settings.session_tokens.issuer,
    ),
    Rule(
        Warning,
        "W004",
        "LOG_LEVEL or LOG_FORMAT is unknown; INFO or console is used instead.",
        "Levels are DEBUG, INFO, WARNING, ERROR and CRITICAL; formats are console and json.",
        lambda: not is_known_logging(),
    ),
    Rule(
        Warning,
        "W006",
        "SENTRY_DSN is set, and the package sentry-sdk is not installed, so no errors are reported.",
        "Install it (pip install sentry-sdk), or unset SENTRY_DSN.",
        lambda: setting("SENTRY_DSN") and find_spec("sentry_sdk") is None,
    ),
    Rule(
        Warning,
        "W007",
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed, so no traces are sent.",
        "Install the packages of the group `tracing` in pyproject.toml, or unset it.",
        lambda: setting("OTEL_EXPORTER_OTLP_ENDPOINT") and find_spec("opentelemetry") is None,
    ),
    Rule(
        Warning,
        "W005",
        "METRICS_TOKEN is not set, so anybody who reaches /metrics can read it.",
        "Set it to a long random text, and configure Prometheus to send it as a bearer token; or let the"
        " proxy refuse /metrics.",
        lambda: not settings.DEBUG and not setting("METRICS_TOKEN"),
        deploy=True,
    ),
    Rule(Error, "E010", *PUBLIC_DJANGO_KEY, lambda: settings.DEBUG and is_public_django_key(), deploy=True),
    Rule(
        Error,
        "E015",
        "ALLOWED_HOSTS admits every host.",
        "Name the hosts of this server: a forged Host header must not end up in links and redirects.",
        lambda: "*" in settings.ALLOWED_HOSTS,
        deploy=True,
    ),
    Rule(
        Error,
        "E016",
        "CLERK_SECRET_KEY is a test key, while DEBUG is off.",
        "Use the live key (sk_live_) of the production instance.",
        lambda: not settings.DEBUG and clerk_settings.secret_key.startswith("sk_test_"),
        deploy=True,
    ),
    Rule(
        Error,
        "E017",
        "CLERK_SECRET_KEY is a live key, while DEBUG is on.",
        "Set DEBUG=false, or use the test key (sk_test_) of the development instance.",
        lambda: settings.DEBUG and clerk_settings.secret_key.startswith("sk_live_"),
        deploy=True,
    ),
)
