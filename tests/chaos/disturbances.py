"""Disturb a deployment under steady load in one way after the other, and check what is left of it.

    uv run python -m tests.chaos.disturbances [--only NAME] [--short] [--seconds 10]

Starts everything of its own: a database server, PgBouncer (if installed), a web server with two processes,
two workers and a local Clerk. After each disturbance the mirror must equal the local Clerk within 60 seconds,
with no delivery left, no confirmed tenant lost and no organization made twice. Within another minute every
request must succeed again. The exit code is 0 if that is so.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import django
import psutil  # type: ignore[import-untyped]

import tests.environment  # noqa: F401  (before Django reads its settings)

if TYPE_CHECKING:
    from tests.chaos.deployment import Deployment
    from tests.chaos.load import Load

IN_SYNC_SECONDS = 60.0
SERVED_SECONDS = 60.0
QUIET_SECONDS = 3.0
FOREVER = 1_000_000
CLOCK = "10m"


def main() -> int:
    """Print a line for each disturbance, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=DISTURBANCES, action="append", default=[])
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from tests.chaos.deployment import deployment
    from tests.chaos.load import Load

    wanted = options.only or (SHORT if options.short else list(DISTURBANCES))
    broken = 0
    with deployment() as running:
        load = Load(running)
        load.start()
        try:
            time.sleep(QUIET_SECONDS)
            for name in wanted:
                broken += _disturb(running, load, name, options.seconds)
        finally:
            load.stop()
    return int(broken > 0)


def _disturb(running: "Deployment", load: "Load", name: str, seconds: float) -> bool:
    """Disturb the deployment, print what is found, and return whether anything is wrong."""
    from tests.chaos.deployment import reconnect
    from tests.chaos.mirror import differences, doubled_or_lost, seconds_until_in_sync

    began = time.monotonic()
    skipped = DISTURBANCES[name](running, seconds)
    if skipped:
        print(f"{name}: skipped: {skipped}", flush=True)
        return False
    reconnect()
    running.clerk.clear_faults()
    load.writing.clear()  # While something changes, the mirror cannot equal Clerk.
    took = seconds_until_in_sync(running.clerk, IN_SYNC_SECONDS)
    wrong = doubled_or_lost(running.clerk, load)
    if took is None:
        wrong += differences(running.clerk)[:5]
    load.writing.set()
    served = _seconds_until_served(load)
    if served is None:
        recent = load.failures(time.monotonic() - QUIET_SECONDS, time.monotonic())
        wrong += [f"{kind} answered {status}" for _, kind, status in recent]
    state = "NOT in sync" if took is None else f"in sync after {took:.1f} s"
    state += "" if served is None else f", all requests succeed after {served:.1f} s"
    print(f"{name}: {state}; answers {load.counts(began)}", flush=True)
    for line in wrong:
        print(f"  wrong: {line}", flush=True)
    return bool(wrong)


def _seconds_until_served(load: "Load") -> float | None:
    """Return after how many seconds every request succeeds for QUIET_SECONDS; None if not in time."""
    began = time.monotonic()
    while time.monotonic() - began < SERVED_SECONDS:
        failures = load.failures(began, time.monotonic())
        last = max((at for at, _, _ in failures), default=began)
        if time.monotonic() - last > QUIET_SECONDS:
            return last - began
        time.sleep(0.1)
    return None


def _kill_web(running: "Deployment", seconds: float) -> None:
    for _ in range(3):
        _signal_all(running.web_workers(), signal.SIGKILL)
        time.sleep(seconds / 3)


def _freeze_web(running: "Deployment", seconds: float) -> None:
    _frozen(running.web_workers(), seconds)


def _kill_workers(running: "Deployment", seconds: float) -> None:
    for _ in range(3):
        running.replace_workers(signal.SIGKILL)
        time.sleep(seconds / 3)


def _freeze_workers(running: "Deployment", seconds: float) -> None:
    _frozen(running.background_workers(), seconds)


def _kill_database(running: "Deployment", seconds: float) -> None:
    """Kill a process of the server: it ends all sessions and recovers from its log."""
    from tests.chaos.deployment import database_processes, reconnect

    for _ in range(2):
        reconnect()
        _, *others = database_processes()
        sessions = [process for process in others if "client backend" in _title(process)] or others
        _signal_all([random.choice(sessions)], signal.SIGKILL)
        time.sleep(seconds / 2)


def _freeze_database(running: "Deployment", seconds: float) -> None:
    from tests.chaos.deployment import database_processes

    _frozen(database_processes(), seconds)


def _restart_pool(running: "Deployment", seconds: float) -> str | None:
    if running.pool is None:
        return "pgbouncer is not installed"
    for _ in range(3):
        running.restart_pool()
        time.sleep(seconds / 3)
    return None


def _fill_disk(running: "Deployment", seconds: float) -> str | None:
    if running.disk is None:
        return "this process may not mount a file system"
    filling = running.disk / "filling"
    with suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    try:
        time.sleep(seconds)
    finally:
        filling.unlink()
    return None


def _fault(**kind: object) -> Callable[["Deployment", float], None]:
    """Return a disturbance in which all reads of Clerk's API meet a fault."""

    def disturb(running: "Deployment", seconds: float) -> None:
        running.clerk.fault(
            "* /v1/*" if "body" not in kind and "patch" not in kind else "GET /v1/*", times=FOREVER, **kind
        )
        running.manage("sync_from_clerk")
        time.sleep(seconds)
        running.clerk.clear_faults()

    return disturb


def _repeat_ids(running: "Deployment", seconds: float) -> None:
    """Let Clerk list each organization twice."""
    page = running.clerk.api("GET", "/organizations", limit=500)
    page["data"] = [one for one in page["data"] for _ in range(2)]
    running.clerk.fault("GET /v1/organizations", times=FOREVER, body=json.dumps(page))
    running.manage("sync_from_clerk")
    running.clerk.clear_faults()


def _refuse(running: "Deployment", seconds: float) -> None:
    from tests.chaos.deployment import wait

    def listens() -> bool:
        with suppress(OSError):
            running.clerk.clear_faults()
            return True
        return False

    running.clerk.outage(seconds)
    time.sleep(seconds)
    wait(listens, "The local Clerk listens again")


def _other_instance(running: "Deployment", seconds: float) -> None:
    """Let another instance answer at Clerk's address, and a full sync ask it."""
    running.clerk.use_instance("other")
    running.manage("sync_from_clerk")
    time.sleep(seconds)
    running.clerk.use_instance("")


def _clock(offset: str) -> Callable[["Deployment", float], str | None]:
    """Return a disturbance in which the clocks of web server and workers are wrong."""

    def disturb(running: "Deployment", seconds: float) -> str | None:
        if shutil.which("faketime") is None:
            return "faketime is not installed"
        running.stop()
        running.start(["faketime", "-f", offset])
        time.sleep(seconds + 5)
        running.stop()
        running.start()
        return None

    return disturb


def _frozen(processes: list[psutil.Process], seconds: float) -> None:
    _signal_all(processes, signal.SIGSTOP)
    time.sleep(seconds)
    _signal_all(processes, signal.SIGCONT)


def _signal_all(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


DISTURBANCES: dict[str, Callable[["Deployment", float], str | None]] = {
    "web-killed": _kill_web,
    "web-frozen": _freeze_web,
    "workers-killed": _kill_workers,
    "workers-frozen": _freeze_workers,
    "database-killed": _kill_database,
    "database-frozen": _freeze_database,
    "pgbouncer-restarted": _restart_pool,
    "disk-full": _fill_disk,
    "clerk-hangs": _fault(timeoutSeconds=3600),
    "clerk-resets": _fault(reset=True),
    "clerk-refuses": _refuse,
    "clerk-truncates": _fault(body='{"data": [{"object": "organization", "id": "org_'),
    "clerk-sends-wrong-types": _fault(patch={"data": 7, "total_count": "many", "id": [], "name": 3}),
    "clerk-repeats-ids": _repeat_ids,
    "another-instance": _other_instance,
    "clock-ahead": _clock(f"+{CLOCK}"),
    "clock-behind": _clock(f"-{CLOCK}"),
}
SHORT = ["workers-killed", "database-killed", "pgbouncer-restarted", "clerk-truncates", "clock-ahead"]

if __name__ == "__main__":
    sys.exit(main())
