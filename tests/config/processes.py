"""Start users of a project's database, and find out whether a process is running."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]


# Sets Django up for the database of the project that the program's first argument names.
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
        # The backend must work with an empty environment and with warnings as errors.
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
        """Let the process exit, and require the exit status 0."""
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End the process by SIGKILL."""
        self.process.kill()
        self.process.communicate()


def is_running(pid: int) -> bool:
    """Return True if `pid` is a process. Some containers never remove zombies, which do not count."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def seconds_until_ended(pid: int, *, at_most: float) -> float:
    """Wait until the process has ended and return how long that took; fail after `at_most` seconds."""
    started = time.monotonic()
    while is_running(pid):
        assert time.monotonic() - started < at_most, f"process {pid} is still running after {at_most} s"
        time.sleep(0.02)
    return time.monotonic() - started
