"""The settings module in odd environments: its import works, or ends in one line that says what to do."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.config.processes import ROOT

DUMP = """
import json, sys
from config import settings
print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}))
"""


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with nothing of Clerk's or the tests' in the environment but `env`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLERK_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=inherited | {"LOG_FORMAT": "json", "CACHE_URL": "", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported(*names: str, **env: str) -> dict[str, Any]:
    """The settings of these names, as the module reads them from `env`."""
    done = run("-c", DUMP, *names, **env)
    assert done.returncode == 0, done.stderr
    settings: dict[str, Any] = json.loads(done.stdout)
    return settings


def test_settings_empty_count_as_unset() -> None:
    defaults = {
        "SECRET_KEY": "insecure-development-only",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "console",
        "CLERK_API_URL": "https://api.clerk.com/v1",
        "CLERK_TIMEOUT_SECONDS": "5",
        "CLERK_RATE_LIMIT": "",
        "CLERK_PENDING_SESSIONS": "refuse",
        "CLERK_SYNC_MAX_AGE_SECONDS": "60",
    }

    assert imported(*defaults, DEBUG="true", **dict.fromkeys(defaults, "")) == defaults


def test_settings_lists_forgive_spaces_between_their_values() -> None:
    assert imported("ALLOWED_HOSTS", ALLOWED_HOSTS=" a.example, b.example,") == {
        "ALLOWED_HOSTS": ["a.example", "b.example"]
    }


def test_check_command_malformed_rate_limit_is_named() -> None:
    done = run("manage.py", "check", CLERK_RATE_LIMIT="abc", DEBUG="true")

    assert done.returncode == 1
    assert "clerk.E013" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("CACHE_URL", "nothing://cache.example"), ("DATABASE_URL", "mysql://db.example/shop")]
)
@pytest.mark.parametrize("command", ["check", "sync_from_clerk"])
def test_command_with_an_unreadable_url_ends_in_one_line_that_names_it(
    name: str, value: str, command: str
) -> None:
    done = run("manage.py", command, **{name: value})

    assert done.returncode == 1
    assert done.stderr.startswith(name)
    assert done.stderr.count("\n") == 1


def test_command_with_an_unreadable_url_shows_the_traceback_when_asked() -> None:
    done = run("manage.py", "check", "--traceback", CACHE_URL="nothing://cache.example")

    assert done.returncode == 1
    assert "Traceback" in done.stderr
