"""Django settings, driven by the environment (or a `.env` file beside manage.py).

A string below an assignment explains its setting to operators; `python -m docs.generate` copies it to
`docs/reference/settings.md`. A paragraph that begins with `NAME (default):` explains a setting whose name or
default value the assignment does not show. An empty value counts as unset.

System checks (`manage.py check`) name wrong or missing values. Importing this module works with an empty
environment and starts nothing. It raises ImproperlyConfigured, in one line that names the setting, if
DATABASE_URL or CACHE_URL cannot be read, or if a number or one of true and false is malformed.
"""

from pathlib import Path
from typing import Any

import environ
from corsheaders.defaults import default_headers
from django.core.exceptions import ImproperlyConfigured

from config.cache import cache_settings
from config.database import database_settings
from config.env_file import read_env_file
from config.flags import flag
from config.logs import logging_settings
from config.telemetry import start_sentry

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
read_env_file(BASE_DIR / ".env")
"""ENV_FILE (`.env` beside `manage.py`): The file with settings. The environment wins over the file."""


def _text(name: str, default: str = "") -> str:
    return env.str(name, default="").strip() or default


def _list(name: str) -> list[str]:
    return [value.strip() for value in _text(name).split(",") if value.strip()]


MAX_SETTING_DIGITS = 9


def _number(name: str, default: str, unit: str) -> int:
    text = _text(name, default)
    if not text.isdecimal() or len(text) > MAX_SETTING_DIGITS:
        raise ImproperlyConfigured(f"{name} is not a number of {unit}.")
    return int(text)


def _flag(name: str, *, default: bool) -> bool:
    return flag(env, name, default=default)


DEBUG = _flag("DEBUG", default=False)
"""Development: embedded database, static files without `collectstatic`."""
SECRET_KEY = _text("SECRET_KEY", "insecure-development-only" if DEBUG else "")
"""SECRET_KEY (none; a fixed one while `DEBUG`): Django's; required in production."""
SECRET_KEY_FALLBACKS = _list("SECRET_KEY_FALLBACKS")
"""Comma-separated former values of `SECRET_KEY`, whose sessions stay valid."""
ALLOWED_HOSTS = _list("ALLOWED_HOSTS") or (["localhost", "127.0.0.1"] if DEBUG else [])
"""ALLOWED_HOSTS (none; `localhost,127.0.0.1` while `DEBUG`): Comma-separated host names of this server."""
CSRF_TRUSTED_ORIGINS = _list("CSRF_TRUSTED_ORIGINS")
"""Comma-separated origins whose forms Django accepts, such as `https://admin.example.com`."""
CORS_ALLOWED_ORIGINS = _list("CORS_ALLOWED_ORIGINS")
"""Comma-separated origins of browser apps that call the API."""
SECURE_HSTS_SECONDS = _number("SECURE_HSTS_SECONDS", "0", "seconds")
"""Django's; how long browsers use HTTPS only."""
SECURE_HSTS_INCLUDE_SUBDOMAINS = _flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=False)
"""Django's; the same for all subdomains."""
SECURE_HSTS_PRELOAD = _flag("SECURE_HSTS_PRELOAD", default=False)
"""Django's; allows browsers to know this before the first visit."""
SECURE_SSL_REDIRECT = _flag("SECURE_SSL_REDIRECT", default=False)
"""Django's; redirects to HTTPS where the proxy does not."""
CORS_ALLOW_HEADERS = [*default_headers, "idempotency-key"]
CORS_EXPOSE_HEADERS = ["X-Clerk-Sync", "Retry-After", "ETag", "X-Request-Id"]
CORS_URLS_REGEX = r"^/api/"

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "config.admin_app.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_standardized_errors",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    # Before Procrastinate, whose command they extend.
    "clerk_integration",
    "tenants",
    "procrastinate.contrib.django",
]

MIDDLEWARE = [
    "config.request_ids.RequestIdMiddleware",
    "config.early_middleware.EarlyMiddleware",
    "config.request_metrics.RequestMetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.security_headers.SecurityHeadersMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tenants.api.exception_handlers.DatabaseOutageMiddleware",
]

SESSION_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_SECURE = not DEBUG

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
# The only pages that need a login.
LOGIN_REDIRECT_URL = "admin:index"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database_settings(env, debug=DEBUG, base_dir=BASE_DIR)}
"""
DATABASE_URL (none; the embedded PostgreSQL while `DEBUG`): PostgreSQL 14 or newer,
`postgres://user:password@host:5432/name`. May lead through PgBouncer (1.18 or newer) in transaction mode;
workers then hear of new jobs by asking once a second.

DATABASE_POOL (`false`): `true` for psycopg's connection pool, at most 16 connections in each web process.
"""
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {"default": cache_settings(env)}
"""
CACHE_URL (`locmemcache://`): A cache that all processes share, if there are several:
`rediscache://HOST:6379/0` (also accepted: `redis://...`) after `pip install redis`.
"""

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "config" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_USE_FINDERS = DEBUG

LOG_LEVEL = _text("LOG_LEVEL", "INFO")
"""The lowest level that is logged. Logs go to stderr."""
LOG_FORMAT = _text("LOG_FORMAT", "console" if DEBUG else "json")
"""
LOG_FORMAT (`json`; `console` while `DEBUG`): `json` writes one JSON object a line, `console` text for people.
"""
LOGGING = logging_settings(level=LOG_LEVEL, fmt=LOG_FORMAT)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tenants.api.authentication.ClerkSessionAuthentication",
        "tenants.api.authentication.StaffSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tenants.api.parsers.LimitedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "tenants.api.operations.OperationSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
}

DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "tenants.api.exception_handlers.ApiExceptionHandler",
    # Errors have the same shape in development; the traceback is logged.
    "ENABLE_IN_DEBUG_FOR_UNHANDLED_EXCEPTIONS": True,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Tenants on Clerk Organizations",
    "DESCRIPTION": "Clerk Organizations are the source of truth; these endpoints serve their mirror.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # By default, Swagger UI loads a badge from a validator on the internet.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    # A field of a request that must not be empty has a minLength; the same field of a response may be empty.
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
}

UNFOLD = {
    "SITE_TITLE": "Tenants",
    "SITE_HEADER": "Tenants",
    "SITE_SUBHEADER": "on Clerk Organizations",
    "SITE_SYMBOL": "domain",
    # The project has no public site.
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
}

CLERK_SECRET_KEY = _text("CLERK_SECRET_KEY")
"""Key of Clerk's Backend API: `sk_test_...` or `sk_live_...`."""
CLERK_API_URL = _text("CLERK_API_URL", "https://api.clerk.com/v1")
"""Base URL of Clerk's Backend API."""
CLERK_JWT_KEY = env.str("CLERK_JWT_KEY", default="", multiline=True)
"""
CLERK_JWT_KEY (none: keys come from Clerk's JWKS): Public key of session tokens as PEM; line breaks as `\\n`,
outside of `.env` also real ones.
"""
CLERK_ISSUER = _text("CLERK_ISSUER")
"""CLERK_ISSUER (any): The only `iss` that session tokens may carry. Set it in production."""
CLERK_AUTHORIZED_PARTIES = _list("CLERK_AUTHORIZED_PARTIES")
"""
CLERK_AUTHORIZED_PARTIES (any): Comma-separated origins that `azp` may name. If it is set, tokens without
`azp` are refused: those of native apps, of requests without an `Origin`, and those that the Backend API
creates.
"""
CLERK_AUDIENCE = _list("CLERK_AUDIENCE")
"""
CLERK_AUDIENCE (any): Comma-separated values of which `aud` must hold one. A session token has an `aud` only
if you add it in Clerk's dashboard.
"""
CLERK_CLOCK_SKEW_SECONDS = _text("CLERK_CLOCK_SKEW_SECONDS", "5")
"""Difference between Clerk's clock and this machine's that session tokens may show."""
CLERK_INSTANCE_ID = _text("CLERK_INSTANCE_ID")
"""
CLERK_INSTANCE_ID (the one that is learned from the key): `ins_...`. The first call that succeeds stores the
instance; a key, setting or event of another one is refused until `check_clerk --adopt-instance`.
"""
CLERK_WEBHOOK_SIGNING_SECRET = _list("CLERK_WEBHOOK_SIGNING_SECRET")
"""`whsec_...`; several, comma-separated, while one is rotated."""
CLERK_TIMEOUT_SECONDS = _text("CLERK_TIMEOUT_SECONDS", "5")
"""Deadline of one service call in a request, all its pages together. Commands and jobs allow 30 seconds."""
CLERK_RATE_LIMIT = _text("CLERK_RATE_LIMIT")
"""
CLERK_RATE_LIMIT (100 for test keys, 1000 for live ones): Requests in 10 seconds that Clerk allows. Creations,
staff's actions, migrations, `link_tenants` and workers together use at most 95 % of them, and leave the rest
to lists.
"""
CLERK_MAX_WAITING = _text("CLERK_MAX_WAITING")
"""
CLERK_MAX_WAITING (half of the web server's threads): Threads of a web process that may wait for Clerk at
once; other requests are answered from local rows.
"""
CLERK_ACCEPT_API_KEYS = _text("CLERK_ACCEPT_API_KEYS", "false")
"""
Whether machine clients may send one of Clerk's API keys (`ak_...`) of a user instead of a session token. Its
scopes are permissions; a revoked key is refused after ten seconds at the latest.
"""
CLERK_PENDING_SESSIONS = _text("CLERK_PENDING_SESSIONS", "refuse")
"""`create` admits pending sessions to `create` and `me/get-tenants` only."""
CLERK_SYNC_MAX_AGE_SECONDS = _text("CLERK_SYNC_MAX_AGE_SECONDS", "60")
"""How long the complete listing of a user's memberships counts as fresh."""

# Requests that one caller may send, shared by all processes.
TENANT_LIST_LIMIT = _text("TENANT_LIST_LIMIT", "120/minute")
"""Lists that one caller may request in a `second`, `minute`, `hour` or `day`; `none` for no limit."""
TENANT_CREATE_LIMIT = _text("TENANT_CREATE_LIMIT", "20/hour")
"""Requests to create a tenant that one caller may send; refused ones count, too."""
TENANT_SYNC_LIMIT = _text("TENANT_SYNC_LIMIT", "10/minute")
"""Syncs of one tenant that one caller may request."""
ADMIN_LOGIN_LIMIT = _text("ADMIN_LOGIN_LIMIT", "10/hour")
"""Failed logins to the admin for one user name from one client address."""
ADMIN_LOGIN_ADDRESS_LIMIT = _text("ADMIN_LOGIN_ADDRESS_LIMIT", "100/hour")
"""Failed logins to the admin from one client address, for all user names together."""
TRUSTED_PROXIES = _number("TRUSTED_PROXIES", "0", "proxies")
"""
Reverse proxies in front of the server, each of which appends to `X-Forwarded-For`. The limits of logins find
the client's address by it. 0: the header is ignored, because any client can send it.
"""

TENANT_HISTORY_DAYS = _number("TENANT_HISTORY_DAYS", "730", "days")
"""How long the history of tenants is kept; 0: for ever. Links of tenants that exist are kept."""

SYNC_ALERT_WEBHOOK_URL = _text("SYNC_ALERT_WEBHOOK_URL")
"""
SYNC_ALERT_WEBHOOK_URL (none: no alerts): http(s) URL that accepts Slack's JSON. Failed or old syncs, failing
or refused webhooks, drift and missing workers are sent when they last for two minutes, again after a day, and
when they are solved.
"""
SYNC_ALERT_AGE_HOURS = _text("SYNC_ALERT_AGE_HOURS", "26")
"""Age of the last complete full sync above which an alert is sent, and the dashboard calls it overdue."""
METRICS_TOKEN = _text("METRICS_TOKEN")
"""The bearer token that `/metrics` requires; without one, `/metrics` needs none."""
SENTRY_DSN = _text("SENTRY_DSN")
"""
Reports errors to Sentry, without local variables, bodies, query strings and secrets; needs the package
sentry-sdk.
"""
start_sentry(SENTRY_DSN)
OTEL_EXPORTER_OTLP_ENDPOINT = _text("OTEL_EXPORTER_OTLP_ENDPOINT")
"""
Sends traces of the web server by OpenTelemetry, which reads its other variables, too; needs the packages of
the group `tracing`. Start workers with `opentelemetry-instrument`.
"""

# For `manage.py procrastinate worker`. The rescue of stalled jobs uses the same stalled_worker_timeout.
PROCRASTINATE_WORKER_DEFAULTS: dict[str, Any] = {
    "concurrency": 4,
    "fetch_job_polling_interval": 1.0,
    "update_heartbeat_interval": 5.0,
    "stalled_worker_timeout": 15.0,
    # After SIGTERM, running jobs may continue for this long. PostgreSQL's timeouts end a delivery earlier.
    "shutdown_graceful_timeout": 20.0,
    # Successful jobs are deleted at once, failed jobs after 30 days, so that the table stays small.
    "delete_jobs": "successful",
}
# A worker imports the tasks of all apps, and so does a process that adds its first job.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""
PROCRASTINATE_IMPORT_PATHS = ["clerk_integration.jobs.discovery"]
PROCRASTINATE_ON_APP_READY = "clerk_integration.jobs.connector.install_connector"
