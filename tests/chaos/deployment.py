"""A whole deployment on a database server of its own: web, two workers, PgBouncer and a local Clerk."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from django.db import DatabaseError, connection

from tenants.demo.servers import reserve_port
from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._database import own_database
from tests.children import PROJECT
from tests.sandbox import SandboxControl

START_SECONDS = 60.0
DISK_MB = 400
POOL = """
[databases]
* = host={socket} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
"""


class Deployment:
    """The processes of a deployment. Those that end are started again only by the methods below."""

    def __init__(self, clerk: SandboxControl, directory: Path) -> None:
        self.clerk = clerk
        self.directory = directory
        self.disk: Path | None = None
        """The file system of the database, if it is one of its own that can be filled."""
        self.workers: list[subprocess.Popen[bytes]] = []
        self.web: subprocess.Popen[bytes] | None = None
        self.pool: subprocess.Popen[bytes] | None = None
        self._listener = reserve_port(0)
        self.port = self._listener.getsockname()[1]
        self.environment = child_environment(clerk) | {
            "CLERK_JWT_KEY": clerk.description["jwtKey"],
            "CLERK_ISSUER": clerk.description["issuer"],
            "CLERK_WEBHOOK_SIGNING_SECRET": clerk.description["webhookSigningSecret"],
            "CLERK_TIMEOUT_SECONDS": "2",
            "CLERK_SYNC_MAX_AGE_SECONDS": "2",
            "ALLOWED_HOSTS": "127.0.0.1",
            "SECRET_KEY": "chaos-" + os.urandom(24).hex(),
        }

    @property
    def url(self) -> str:
        """The address of the web server."""
        return f"http://127.0.0.1:{self.port}"

    def start_pool(self) -> None:
        """Start PgBouncer in front of the database, if it is installed; the other processes then use it."""
        if shutil.which("pgbouncer") is None:
            return
        from tests.tenants.runs.test_pgbouncer import as_server_account, is_reachable

        database = connection.settings_dict
        with reserve_port(0) as listener:
            listen = listener.getsockname()[1]
        configuration = self.directory / "pgbouncer.ini"
        values = {"socket": database["HOST"], "port": database["PORT"], "user": database["USER"]}
        configuration.write_text(POOL.format(listen=listen, **values))
        self._pool_command = ["pgbouncer", *as_server_account(Path(database["HOST"])), str(configuration)]
        url = f"postgres://{database['USER']}@127.0.0.1:{listen}/{database['NAME']}"
        self.environment["DATABASE_URL"] = url
        self.restart_pool()
        wait(lambda: is_reachable(url), "PgBouncer answers")

    def restart_pool(self) -> None:
        """Kill PgBouncer, if it runs, and start it again."""
        if self.pool is not None:
            self.pool.kill()
            self.pool.wait()
        with (self.directory / "pgbouncer.log").open("a") as log:
            self.pool = subprocess.Popen(self._pool_command, stderr=log, stdin=subprocess.DEVNULL)

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Start the web server and two workers; `prefix` is put before their commands."""
        command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]
        command += ["--workers", "2", "--threads", "4", "--no-control-socket", "--log-level", "warning"]
        command += ["--bind", f"fd://{self._listener.fileno()}"]
        self.web = self._start("web", [*prefix, *command], pass_fds=[self._listener.fileno()])
        while len(self.workers) < 2:
            self.start_worker(prefix)

    def start_worker(self, prefix: Sequence[str] = ()) -> None:
        """Start a worker."""
        command = [sys.executable, "manage.py", "procrastinate", "--skip-checks", "worker"]
        self.workers.append(self._start(f"worker-{time.monotonic_ns()}", [*prefix, *command]))

    def replace_workers(self, number: int = signal.SIGKILL) -> None:
        """End both workers by a signal, and start two others, as a supervisor does."""
        ended, self.workers = self.workers, []
        for worker in ended:
            _signal(worker, number)
        for _ in ended:
            self.start_worker()
        for worker in ended:
            worker.wait()

    def stop(self) -> None:
        """End the web server and the workers as a supervisor does."""
        ending = [process for process in (self.web, *self.workers) if process is not None]
        for process in ending:
            _signal(process, signal.SIGTERM)
        for process in ending:
            process.wait()
        self.web, self.workers = None, []

    def close(self) -> None:
        """End all processes."""
        self.stop()
        if self.pool is not None:
            self.pool.kill()
            self.pool.wait()
        self._listener.close()

    def web_workers(self) -> list[psutil.Process]:
        """Return the worker processes of the web server."""
        return [] if self.web is None else list(_real(self.web).children())

    def background_workers(self) -> list[psutil.Process]:
        """Return the worker processes of the queue."""
        return [_real(worker) for worker in self.workers]

    def manage(self, *arguments: str) -> int:
        """Run a command of `manage.py`, and return its exit status."""
        command = [sys.executable, "manage.py", *arguments, "--skip-checks"]
        return self._start(f"{arguments[0]}-{time.monotonic_ns()}", command).wait()

    def _start(
        self, name: str, command: Sequence[str], pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self.environment,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


@contextmanager
def deployment(*, organizations: int = 20, users: int = 20, members: int = 3) -> Iterator[Deployment]:
    """Run a deployment for the block; its logs are removed at the end if the block raises nothing."""
    directory = Path(tempfile.mkdtemp(prefix="clerk-tenants-chaos-"))
    with (
        _disk() as disk,
        own_database(durable=True),
        local_clerk(organizations=organizations, users=users, members=members) as clerk,
    ):
        running = Deployment(clerk, directory)
        running.disk = disk
        try:
            running.start_pool()
            running.start()
            wait(lambda: is_ready(running), "The web server answers")
            clerk.webhooks(url=f"{running.url}/api/v1/webhooks/clerk", retryScale=0.01)
            assert running.manage("sync_from_clerk") == 0
            yield running
        finally:
            running.close()
    shutil.rmtree(directory)


def is_ready(running: Deployment) -> bool:
    """Return whether the web server answers, and all workers are registered."""
    import httpx

    with suppress(httpx.HTTPError):
        state = httpx.get(f"{running.url}/readyz", timeout=10, trust_env=False).json()
        return bool(state["status"] != "unready" and state["checks"].get("workers") == "ok")
    return False


@contextmanager
def _disk() -> Iterator[Path | None]:
    """Give the database a small file system of its own, where this process may mount one."""
    path = Path(tempfile.mkdtemp(prefix="clerk-tenants-disk-"))
    path.chmod(0o711)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0711", "tmpfs", str(path)]
    is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    before = tempfile.tempdir
    tempfile.tempdir = str(path) if is_mounted else before
    try:
        yield path if is_mounted else None
    finally:
        tempfile.tempdir = before
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
        path.rmdir()


def database_processes() -> list[psutil.Process]:
    """Return the processes of the database server, the first of all first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server = psutil.Process(cursor.fetchone()[0]).parent()
    return [server, *server.children()]


def connections() -> int:
    """Return the number of clients of the database server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return int(cursor.fetchone()[0])


def reconnect() -> None:
    """Connect this process to the database again, once the database answers."""

    def answers() -> bool:
        connection.close()
        with suppress(DatabaseError):
            connections()
            return True
        return False

    wait(answers, "The database answers")


def _real(process: subprocess.Popen[bytes]) -> psutil.Process:
    """Return the process itself, not the `faketime` that runs it."""
    found = psutil.Process(process.pid)
    return found.children()[0] if found.name() == "faketime" and found.children() else found


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        found = _real(process)
        found.send_signal(signal.SIGCONT)
        found.send_signal(number)


def wait(condition: object, what: str, seconds: float = START_SECONDS) -> None:
    """Wait until the condition holds; end the script if that takes too long."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s.")
        time.sleep(0.1)
