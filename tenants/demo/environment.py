"""The environment of the demo's processes: a real database or Clerk key configured here never enters it."""

import os
from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "DEBUG": "true",
    "ALLOWED_HOSTS": "localhost,127.0.0.1",
    "CSRF_TRUSTED_ORIGINS": "",
    "CORS_ALLOWED_ORIGINS": "",
    # Empty, with DEBUG: the embedded PostgreSQL.
    "DATABASE_URL": "",
    "CACHE_URL": "locmemcache://",
    "LOG_LEVEL": "WARNING",
    "LOG_FORMAT": "json",
    "CLERK_SECRET_KEY": "",
    # Nobody listens there; who may call the local Clerk gets its address instead.
    "CLERK_API_URL": "http://127.0.0.1:9/v1",
    "CLERK_JWT_KEY": "",
    "CLERK_ISSUER": "",
    "CLERK_AUTHORIZED_PARTIES": "",
    "CLERK_INSTANCE_ID": "",
    "CLERK_WEBHOOK_SIGNING_SECRET": "",
    "CLERK_TIMEOUT_SECONDS": "2",
    "CLERK_PENDING_SESSIONS": "refuse",
    "CLERK_RATE_LIMIT": "10000",
    "CLERK_SYNC_MAX_AGE_SECONDS": "0",
}
"""Every variable that the settings read, but for SECRET_KEY: what is set here, `.env` cannot change."""

PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "TERM", "COLORTERM", "COLUMNS", "NO_COLOR"}
    | {"DJANGO_SETTINGS_MODULE"}
)
PASSED_ON_PREFIXES = ("LC_", "PYTHON", "LD_", "DYLD_")
"""What an interpreter may need to run and to print at all."""


def is_isolated() -> bool:
    """Say whether this process has the demo's settings, so that it may go to work."""
    return all(os.environ.get(name) == value for name, value in SETTINGS.items())


def ignored_settings() -> list[str]:
    """Return the names of what is set here, in the environment or `.env`, and does not apply in the demo."""
    return sorted(name for name, value in SETTINGS.items() if os.environ.get(name, value) not in ("", value))


def isolated_environment(**settings: str) -> dict[str, str]:
    """Return the whole environment of a process of the demo, with `settings` over the demo's own."""
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    return {**passed_on, **SETTINGS, **settings}
