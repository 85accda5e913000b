"""The environment of the demo's processes. It never contains a database or a Clerk key of the user."""

import os
from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    # Read no file, so that the settings in `.env` do not apply.
    "ENV_FILE": os.devnull,
    "DEBUG": "true",
    "LOG_LEVEL": "WARNING",
    "LOG_FORMAT": "json",
    # No server listens there. Processes that may call the local Clerk get its address instead.
    "CLERK_API_URL": "http://127.0.0.1:9/v1",
    "CLERK_TIMEOUT_SECONDS": "2",
    "CLERK_RATE_LIMIT": "10000",
    "CLERK_SYNC_MAX_AGE_SECONDS": "0",
}

# An interpreter may need these variables to run and to print.
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "TERM", "COLORTERM", "COLUMNS", "NO_COLOR"}
    | {"DJANGO_SETTINGS_MODULE"}
)
PASSED_ON_PREFIXES = ("LC_", "PYTHON", "LD_", "DYLD_")

DEMO_PROCESS = "DEMO_PROCESS"
"""The name of a variable with the id of the process that has the demo's environment."""


def is_isolated() -> bool:
    """Return True if this process was started with the demo's environment."""
    return os.environ.get(DEMO_PROCESS) == str(os.getpid())


def ignored_settings() -> list[str]:
    """Return the names of configured databases, caches and Clerk settings. The demo does not use them."""
    names = ("DATABASE_URL", "CACHE_URL")
    return sorted(name for name in os.environ if name.startswith("CLERK_") or name in names)


def isolated_environment(**settings: str) -> dict[str, str]:
    """Return the complete environment of a process of the demo; `settings` override the demo's own."""
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    return {**passed_on, **SETTINGS, **settings}
