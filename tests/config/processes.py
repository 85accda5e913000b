"""Processes as the tests see them: users of a project's database, and whether an id is alive."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]


# What a program of the tests begins with: Django on the database of the project in its first argument.
DJANGO = """
import json, sys
from pathlib import Path
import django, environ
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from config.database import database_settings
env = environ.Env()
settings.configure(
    DATABASES={"default": database_settings(
        env, debug=env.bool("DEBUG", default=False), base_dir=Path(sys.argv[1]))},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()
"""


def run_python(program: str, *arguments: str | Path, **env: str) -> str:
    """Run `program` with warnings as errors and an otherwise empty environment; return what it prints."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=ROOT,
        env=env,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    return run.stdout


class DatabaseUser:
    """A running `tests.config.database_user`."""

    def __init__(self, base_dir: Path, env: dict[str, str]) -> None:
        # An empty environment and -W error for every one of them: neither may matter.
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.config.database_user", base_dir],
            cwd=ROOT,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def read(self) -> Any:
        """Return the next answer; the first is the process id of the server."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the process ended with status {self.process.wait()}"
        return json.loads(line)

    def ask(self, line: str) -> Any:
        """Send a statement and return its answer."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.read()

    def leave(self) -> None:
        """End the process as its user would; it must not complain."""
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End the process without any chance to clean up."""
        self.process.kill()
        self.process.communicate()


def is_running(pid: int) -> bool:
    """Say whether `pid` is a process; a zombie, unreaped in some containers, is none."""
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
