"""A local Clerk in a process of its own, answering from memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests import children
from tests.children import PROJECT
from tests.sandbox import SandboxControl


@contextmanager
def local_clerk(
    *, organizations: int = 0, members: int = 0, users: int = 10_000, rate_limit: str = "none"
) -> Iterator[SandboxControl]:
    """Serve so many organizations with so many members each until the end of the block."""
    command = [
        *(sys.executable, "manage.py", "clerk_sandbox"),
        *("--organizations", str(organizations), "--users", str(users)),
        *("--memberships-per-organization", str(members), "--rate-limit", rate_limit),
    ]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        control = SandboxControl(json.loads(process.stdout.readline()))
        try:
            yield control
        finally:
            control.close()
            process.terminate()


def child_environment(clerk: SandboxControl) -> dict[str, str]:
    """Return the environment of a child process that works on the same database and Clerk.

    As in production: DEBUG would keep every statement in memory. `--skip-checks` lets commands run with
    a local Clerk nevertheless. No caller is limited: a few callers stand for many.
    """
    unlimited = {"TENANT_LIST_LIMIT": "none", "TENANT_CREATE_LIMIT": "none", "TENANT_SYNC_LIMIT": "none"}
    environment = children.child_environment(clerk.description) | {"DEBUG": "false"} | unlimited
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Production does not compile the SDK at each start.
    return environment
