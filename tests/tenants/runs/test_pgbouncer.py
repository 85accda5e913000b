"""Long work through PgBouncer in transaction mode, whose five server connections others keep busy.

Consecutive transactions of one client land on different server connections, so that whatever a process
keeps in its session (a lock, a prepared statement, a setting) is lost or met by another process.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from clerk_integration.models import WebhookDelivery
from tenants.demo.servers import reserve_port
from tenants.models import Membership, SyncRun, Tenant
from tests.children import PROJECT, child_environment
from tests.clerk_integration.management.test_migrate_once import migrate_at_once
from tests.sandbox import SandboxControl
from tests.test_webhook_storm import web
from tests.workers import wait_until, workers_on

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("pgbouncer") is None,
        reason="pgbouncer is not installed: apt-get install pgbouncer",
    ),
]

SERVER_CONNECTIONS = 5
BUSY_CLIENTS = 5
ORGANIZATIONS = 1_200
LEGACY = 9

CONFIGURATION = """
[databases]
* = host={socket} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
server_round_robin = 1
max_client_conn = 200
"""


@pytest.fixture
def pooled_url(tmp_path: Path) -> Iterator[str]:
    """The test database through PgBouncer, as DATABASE_URL."""
    database = connection.settings_dict
    with reserve_port(0) as listener:
        port = listener.getsockname()[1]
    log = tmp_path / "pgbouncer.log"
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            socket=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            listen=port,
            connections=SERVER_CONNECTIONS,
        )
    )
    # The other account inherits the open log; it may not enter pytest's directories.
    with log.open("w") as output:
        account = as_server_account(Path(database["HOST"]))
        process = subprocess.Popen(["pgbouncer", *account, configuration], stderr=output)
    url = f"postgres://{database['USER']}@127.0.0.1:{port}/{database['NAME']}"
    try:
        wait_until(lambda: process.poll() is not None or is_reachable(url))
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait()


def as_server_account(socket: Path) -> list[str]:
    """Return the options with which PgBouncer starts for root: as the account that may use the socket."""
    if os.geteuid() != 0:
        return []
    return ["-u", pwd.getpwuid(socket.stat().st_uid).pw_name]


def is_reachable(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def busy(pooled_url: str) -> Iterator[None]:
    """Clients that keep the server connections busy with transactions of 20 ms."""
    stopping = threading.Event()

    def work() -> None:
        with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as client:
            while not stopping.is_set():
                client.execute("SELECT pg_sleep(0.02)")

    threads = [threading.Thread(target=work) for _ in range(BUSY_CLIENTS)]
    for thread in threads:
        thread.start()
    yield
    stopping.set()
    for thread in threads:
        thread.join()


@contextmanager
def connected(sandbox: SandboxControl, url: str, directory: Path) -> Iterator[None]:
    """Serve the webhooks of the local Clerk, and start two workers, all through the pool."""
    environment = {
        "CLERK_API_URL": sandbox.description["apiUrl"],
        "CLERK_SECRET_KEY": sandbox.description["secretKey"],
        "CLERK_INSTANCE_ID": sandbox.description["instanceId"],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with (
            web(sandbox, directory / "web.log", url=url) as receiver,
            workers_on(directory, "config.settings", url=url) as workers,
        ):
            workers.start()
            workers.start()
            sandbox.webhooks(url=receiver)
            yield
            sandbox.webhooks(url="")


def test_long_work_through_a_busy_pool_in_transaction_mode(
    sandbox: SandboxControl, pooled_url: str, busy: None, legacy: Callable[..., Tenant], tmp_path: Path
) -> None:
    sandbox.reset(organizations=ORGANIZATIONS, users=100, membershipsPerOrganization=1)

    def run(*command: str) -> dict[str, Any]:
        environment = child_environment(sandbox.description) | {"DATABASE_URL": pooled_url}
        child = subprocess.run(
            [sys.executable, "manage.py", *command, "--json"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return dict(json.loads(child.stdout.splitlines()[-1]))

    syncs = [run("sync_from_clerk") for _ in range(5)]
    assert [sync["state"] for sync in syncs] == ["completed"] * 5
    assert [sync["created"] for sync in syncs] == [2 * ORGANIZATIONS, 0, 0, 0, 0]

    for _ in range(LEGACY):
        legacy(members={str(sandbox.user()["id"]): "owner"})
    with connected(sandbox, pooled_url, tmp_path):
        migrations = [run("migrate_tenants_to_clerk") for _ in range(2)]
        assert [migration["created"] for migration in migrations] == [LEGACY, 0]

        enqueued = run("sync_from_clerk", "--enqueue")["run"]
        wait_until(lambda: SyncRun.objects.get(pk=enqueued).state != SyncRun.State.RUNNING)
        assert SyncRun.objects.get(pk=enqueued).state == SyncRun.State.COMPLETED

        changed = Tenant.objects.exclude(clerk_org_id=None).earliest("id")
        sandbox.api("PATCH", f"/organizations/{changed.clerk_org_id}", {"name": "New name"})
        wait_until(lambda: Tenant.objects.get(pk=changed.pk).name == "New name")
        wait_until(lambda: not WebhookDelivery.objects.exclude(status="processed").exists())

    assert Tenant.objects.filter(status="active").count() == ORGANIZATIONS + LEGACY
    assert Membership.objects.filter(is_active=True).count() == ORGANIZATIONS + LEGACY
    assert {run.state for run in SyncRun.objects.all()} == {SyncRun.State.COMPLETED}


def test_migrate_once_through_a_pool_in_transaction_mode_applies_each_migration_once(
    pooled_url: str, new_database: str
) -> None:
    new_name = new_database.partition("?")[0].rpartition("/")[2]

    ended = migrate_at_once(f"{pooled_url.rpartition('/')[0]}/{new_name}", 2)

    assert [code for code, _ in ended] == [0, 0], ended
    assert sum("No migrations to apply." in output for _, output in ended) == 1
