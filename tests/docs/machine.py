"""A machine on which a reader follows the pages: a copy of the project, a local Clerk and a database.

A machine serves all pages of a test process. Each page gets a copy of the project and a database of its own,
and the local Clerk's first records again. The environment holds what a login shell has, and nothing else.

Three things differ from the reader's machine, because they take minutes: `uv run` uses the environment of the
tests, `pip` is `uv pip`, and `git+<this repository>` is the copy of the project. Instead of 8000 and 9100,
free ports are used.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import requests
from django.db import connection

from tests.docs.pages import PROJECT, Block, Page
from tests.tenants.demo.test_demo import forget_database, free_port

SECONDS = 90.0
CLERK = (
    "uv run manage.py clerk_sandbox --env-file .env --port 9100 --organizations 20 --users 20"
    " --memberships-per-organization 3 --webhook-url http://127.0.0.1:8000/api/v1/webhooks/clerk"
)
HALF_COMPILED_FILES = "*.pyc.*"
HALF_COMPILED = shutil.ignore_patterns(HALF_COMPILED_FILES)
"""Files that another process is writing; they are renamed while they are copied."""

SERVERS = {
    "web": Block(0, "sh", "uv run manage.py runserver --noreload 8000", ready="Quit the server"),
    "worker": Block(0, "sh", "uv run manage.py procrastinate worker", ready="Starting worker"),
}
STATES = {
    "project": "the end of the tutorial: migrated, with a local Clerk that runs",
    "clone": "a clone of the repository in which nothing was run yet",
    "nothing": "an empty directory, PostgreSQL with an empty database `shop`",
}


class Shell:
    """A shell of the reader; each command's output is kept."""

    def __init__(self, directory: Path, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._scripts = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def start(self, code: str) -> None:
        """Begin to run the code; its first failing command ends the shell."""
        self._scripts += 1
        script = self._log.with_suffix(f".{self._scripts}.sh")
        script.write_text(
            f"set -euo pipefail\n{code}\n[ $? = 0 ] || exit 1\nprintf '\\ndone {self._scripts}\\n'\n"
        )
        assert self._process.stdin
        self._process.stdin.write(f"source {script} </dev/null\n")
        self._process.stdin.flush()

    def run(self, code: str) -> str:
        """Run the code and return its output."""
        before = len(self.output)
        self.start(code)
        self.wait_for(f"\ndone {self._scripts}\n")
        return self.output[before:]

    def wait_for(self, text: str) -> None:
        """Wait until the shell has printed the text."""
        deadline = time.monotonic() + SECONDS
        while text not in self.output:
            assert self._process.poll() is None, f"failed:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} after {SECONDS:.0f} s:\n{self.output}"
            time.sleep(0.02)

    @property
    def output(self) -> str:
        """Everything that was printed."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """End the shell and the commands that it runs."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1 if number == signal.SIGINT else 5)
                if not _group_is_alive(self._process.pid):
                    break
        if self._process.stdin:
            self._process.stdin.close()


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Machine:
    """The machine; `follow` follows a page."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {"8000": free_port(), "9100": free_port()}
        self._copy = directory / "copy"
        _copy_project(self._copy)
        (directory / "home").mkdir()
        _write_tools(directory / "bin")
        self._project = directory / "project"
        shutil.copytree(self._copy, self._project, ignore=HALF_COMPILED)
        self._clerk = self.shell("clerk", self._project)
        self._clerk.start(on_this_machine(CLERK, self._ports))
        self._clerk.wait_for("apiUrl")

    def close(self) -> None:
        """Stop the local Clerk."""
        self._clerk.close()

    def follow(self, page: Page) -> None:
        """Do what the page says, block by block."""
        requests.post(f"http://127.0.0.1:{self._ports['9100']}/sandbox/reset", timeout=20).raise_for_status()
        with self._visit(page) as visit:
            for server in page.running:
                visit.in_background(SERVERS[server])
            for block in page.blocks:
                if not block.not_run:
                    visit.carry_out(block)

    @contextmanager
    def _visit(self, page: Page) -> Iterator["Visit"]:
        """Make the directory of a page, in the state in which the page begins."""
        directory = self._directory / page.name / "tenants"
        ports, variables = self._ports, {}
        with ExitStack() as stack:
            if page.begins != "project":
                ports = {port: free_port() for port in self._ports}
            if page.begins == "clone":
                shutil.copytree(self._copy, directory, ignore=HALF_COMPILED)
                stack.callback(forget_database, directory)
            elif page.begins == "nothing":
                directory.mkdir(parents=True)
                server = stack.enter_context(_database(empty=True))
                variables = {f"PG{key.upper()}": value for key, value in server.items()}
            else:
                shutil.copytree(self._project, directory, ignore=HALF_COMPILED)
                server = stack.enter_context(_database(empty=False))
                url = "postgres://{user}@/{database}?host={host}&port={port}".format(**server)
                _write(directory / ".env", f"DATABASE_URL={url}\n")
            replaced = {
                **ports,
                "git+<this repository>": str(self._copy),
                "manage.py demo": f"manage.py demo --port {ports['8000']}",
            }
            visit = Visit(self, page, directory, replaced, variables)
            stack.callback(visit.close)
            yield visit

    def shell(self, name: str, directory: Path, **variables: str) -> Shell:
        """Return a shell with the variables that a login shell has, and a log of that name."""
        environment = {
            "HOME": str(self._directory / "home"),
            "PATH": f"{self._directory / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
            "UV_NO_SYNC": "1",
            "VIRTUAL_ENV": str(self._directory / "bin" / "venv"),
            "UV_NO_PROGRESS": "1",
            "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"),
        }
        kept = ("SSL_CERT_FILE", "UV_CACHE_DIR", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
        environment |= {name: os.environ[name] for name in kept if name in os.environ}
        return Shell(directory, environment | variables, self._directory / f"{name}.log")


class Visit:
    """A reader at one page, with the shells that the page has opened."""

    def __init__(
        self,
        machine: Machine,
        page: Page,
        directory: Path,
        replaced: Mapping[str, str],
        variables: Mapping[str, str],
    ) -> None:
        self._machine, self._page, self._directory = machine, page, directory
        self._replaced, self._variables = replaced, variables
        self._shells: list[Shell] = []
        self._shell = self._open()
        self._output = ""
        """The output of the last command, which the next block may show."""

    def carry_out(self, block: Block) -> None:
        """Do what a block says."""
        code = on_this_machine(block.code, self._replaced)
        try:
            if block.title:
                _write(self._directory / block.title, code)
            elif block.ready:
                self.in_background(block)
            elif block.language == "sh":
                if block.fails:
                    code = f"status=0\nbash -eu <<'END' || status=$?\n{code}END\ntest $status = {block.fails}"
                self._output = self._shell.run(code)
            elif block.language == "python":
                (self._directory / "typed.py").write_text(code)
                self._output = self._shell.run("uv run manage.py shell < typed.py")
            else:
                assert block.language in {"json", "text"}, f"unknown language {block.language}"
                _require_lines(code, self._output)
        except AssertionError as error:
            raise AssertionError(f"{self._page.name}.md, line {block.line}: {error}") from error

    def in_background(self, block: Block) -> None:
        """Run a command in a shell of its own until the end of the visit."""
        shell = self._open()
        shell.start(on_this_machine(block.code, self._replaced))
        shell.wait_for(on_this_machine(block.ready, self._replaced))

    def close(self) -> None:
        """End all commands, the last first."""
        for shell in reversed(self._shells):
            shell.close()

    def _open(self) -> Shell:
        name = f"{self._page.name}-{len(self._shells)}"
        shell = self._machine.shell(name, self._directory, **self._variables)
        self._shells.append(shell)
        return shell


def on_this_machine(text: str, replaced: Mapping[str, str]) -> str:
    """Return the text with this machine's ports and addresses."""
    pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in replaced)
    return re.sub(pattern, lambda match: replaced[match[0]], text)


def _copy_project(target: Path) -> None:
    """Copy the files of the repository, with compiled modules if there are any, which saves seconds."""
    ignored = (".git", ".venv*", ".env", ".*_cache", ".coverage*", ".postgres", "site", "staticfiles")
    shutil.copytree(PROJECT, target, ignore=shutil.ignore_patterns(*ignored, HALF_COMPILED_FILES))


def _write_tools(directory: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv is not None, "uv is not installed"
    directory.mkdir()
    (directory / "uv").symlink_to(uv)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory / "venv"], check=True)
    (directory / "python").symlink_to(Path(sys.executable).resolve())
    (directory / "python3").symlink_to(Path(sys.executable).resolve())
    pip = directory / "pip"
    pip.write_text('#!/bin/sh\nexec uv pip "$@"\n')
    pip.chmod(0o755)


def _write(path: Path, code: str) -> None:
    """Write a file, or append to it if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if file.tell():
            file.write("\n")
        file.write(code)


def _require_lines(expected: str, output: str) -> None:
    """Require that the output has the expected lines in their order; `...` stands for anything."""
    lines = [" ".join(line.split()) for line in expected.splitlines() if line.strip()]
    patterns = [r"[^\n]*?".join(map(re.escape, line.split("..."))) for line in lines if line != "..."]
    spaced = "\n".join(" ".join(line.split()) for line in output.splitlines())
    position = 0
    for pattern in patterns:
        found = re.compile(rf"^{pattern}$", re.MULTILINE).search(spaced, position)
        assert found, f"the output lacks {pattern!r}:\n{output}"
        position = found.end()


@contextmanager
def _database(*, empty: bool) -> Iterator[dict[str, str]]:
    """A database of its own, migrated or empty, as parameters of a connection."""
    settings = connection.settings_dict
    template = "template1" if empty else settings["NAME"]
    name = "shop" if empty else f"docs_{os.getpid()}_{time.time_ns()}"
    # PostgreSQL copies a database only while nobody is connected to it.
    connection.close()
    server = {"host": settings["HOST"], "port": str(settings["PORT"]), "user": settings["USER"]}
    with psycopg.connect(dbname="postgres", autocommit=True, **server) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield {**server, "database": name}
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
