"""The client within its process: transactions, threads, forks, imports, changed settings."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import transaction
from pytest_django import Settings

from clerk_integration.exceptions import ClerkCalledInTransaction, ClerkMisconfigured
from clerk_integration.organizations import create_clerk_org, get_clerk_org
from tests.hostile_server import HostileServer, respond
from tests.sandbox import SandboxControl

PROJECT = Path(__file__).parents[3]
THREADS = 16

FORK = """
import os, django
django.setup()
from clerk_integration.organizations import get_clerk_org

def read(org_id):
    for _ in range(20):
        assert get_clerk_org(org_id).id == org_id

first, second = os.environ["ORG_IDS"].split()
read(first)
children = []
for org_id in (first, second, first, second):
    child = os.fork()
    if child == 0:
        try:
            read(org_id)
        except BaseException as exc:
            print(repr(exc), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
read(first)
raise SystemExit(any(os.waitpid(child, 0)[1] for child in children))
"""

FORK_UNDER_LOAD = """
import os, threading, django
django.setup()
from clerk_integration.organizations import get_clerk_org

org_id = os.environ["ORG_IDS"].split()[0]
stop = threading.Event()
get_clerk_org(org_id)  # A fork in the middle of an import would hang in Python's own locks.

def read():
    while not stop.is_set():
        get_clerk_org(org_id)

threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
failed = False
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(get_clerk_org(org_id).id != org_id)
    failed |= os.waitpid(child, 0)[1] != 0
stop.set()
for thread in threads:
    thread.join()
raise SystemExit(failed)
"""


@pytest.fixture
def org_ids(sandbox: SandboxControl) -> list[str]:
    owner = sandbox.user()["id"]
    return [str(sandbox.organization(name, owner)["id"]) for name in ("One", "Two")]


def run_python(code: str, sandbox: SandboxControl | None = None, org_ids: list[str] | None = None) -> None:
    """Run `code` in a process of its own that knows the sandbox; it must exit with 0."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    if sandbox is not None:
        environment["CLERK_SECRET_KEY"] = sandbox.description["secretKey"]
        environment["CLERK_API_URL"] = sandbox.description["apiUrl"]
    environment["ORG_IDS"] = " ".join(org_ids or [])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Transactions


@pytest.mark.django_db(transaction=True)
def test_call_inside_a_transaction_raises_and_sends_nothing(sandbox: SandboxControl) -> None:
    with transaction.atomic(), pytest.raises(ClerkCalledInTransaction, match="default"):
        create_clerk_org("Acme", "user_1")
    assert sandbox.requests() == []


@pytest.mark.django_db
def test_call_inside_the_wrapper_of_a_test_is_allowed(org_ids: list[str]) -> None:
    assert get_clerk_org(org_ids[0]).name == "One"


@pytest.mark.django_db
def test_call_inside_a_transaction_inside_the_wrapper_of_a_test_raises(org_ids: list[str]) -> None:
    with transaction.atomic(), pytest.raises(ClerkCalledInTransaction):
        get_clerk_org(org_ids[0])


# Threads, processes, settings


def test_first_calls_of_many_threads_at_once_get_their_own_answers(
    sandbox: SandboxControl, org_ids: list[str]
) -> None:
    ready = threading.Barrier(THREADS)

    def read(number: int) -> bool:
        org_id = org_ids[number % 2]
        ready.wait()
        return all(get_clerk_org(org_id).id == org_id for _ in range(10))

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(read, range(THREADS)))
    assert len(sandbox.requests()) == THREADS * 10


@pytest.mark.slow
def test_calls_in_forked_children_get_their_own_answers(sandbox: SandboxControl, org_ids: list[str]) -> None:
    run_python(FORK, sandbox, org_ids)
    assert len(sandbox.requests()) == 6 * 20


@pytest.mark.slow
def test_call_in_a_child_forked_while_threads_were_calling_answers(
    sandbox: SandboxControl, org_ids: list[str]
) -> None:
    run_python(FORK_UNDER_LOAD, sandbox, org_ids)


def test_call_after_a_change_of_settings_uses_them(settings: Settings, org_ids: list[str]) -> None:
    get_clerk_org(org_ids[0])
    settings.CLERK_SECRET_KEY = "sk_test_that_the_sandbox_does_not_know"
    with pytest.raises(ClerkMisconfigured):
        get_clerk_org(org_ids[0])
    with HostileServer(respond(200, {"id": org_ids[0], "name": "Elsewhere"})) as server:
        settings.CLERK_API_URL = server.api_url
        assert get_clerk_org(org_ids[0]).name == "Elsewhere"
