"""Rules of the tree that import contracts cannot express."""

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "clerk_integration", "tenants")

MAY_OPEN_TRANSACTIONS = {
    "clerk_integration/jobs/stalled.py",  # a job is locked and put back
    "clerk_integration/webhooks/drain.py",  # the handlers' rows and the deliveries' results
    "clerk_integration/webhooks/recover.py",  # lost claims are locked and released
    "clerk_integration/webhooks/inbox.py",
    "tenants/monitoring/numbers.py",  # all numbers are read within one time limit
    "tenants/history.py",  # the transaction of a change names its actor
    "tenants/files/imports.py",  # the lines of a batch become rows together
    "tenants/runs/slices.py",  # the slices of a run and their jobs are handed out together
    "tenants/scoping/row_security.py",  # a statement and the setting that it needs
    "tenants/mirror/deletions.py",
    "tenants/mirror/writer.py",
    "tenants/lifecycle/delete.py",
    "tenants/lifecycle/link.py",  # the preview reads the rows of all tenants
    "tenants/lifecycle/restore.py",
    "tenants/creation/create.py",
    "tenants/creation/local.py",
}
TOOLBOXES = {"utils.py", "helpers.py", "common.py", "misc.py"}
MAX_ROOMS = 25  # `batches` is what staff do with selected tenants: neither a service nor a page
NAMED_BY_DJANGO = {"migrations", "static", "templatetags"}
MAX_FUNCTION_LINES, MAX_FUNCTION_LINES_OF_95_PERCENT, MAX_MEDIAN_FUNCTION_LINES = 60, 35, 9
MAX_FILE_LINES_OF_95_PERCENT = 300


def modules() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in sorted((PROJECT / package).rglob("*.py"))
        if "migrations" not in path.parts
    ]


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def function_lengths() -> Iterator[tuple[int, str]]:
    """Yield the number of lines and the place of every function."""
    for path in modules():
        for node in ast.walk(syntax_tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                yield length, f"{path.relative_to(PROJECT)}:{node.lineno} {node.name}"


def test_transactions_are_opened_by_the_writers_only() -> None:
    openers = {
        str(path.relative_to(PROJECT))
        for path in modules()
        for node in ast.walk(syntax_tree(path))
        if (isinstance(node, ast.Attribute) and node.attr == "atomic")
        or (isinstance(node, ast.alias) and node.name == "atomic")
    }
    assert openers == MAY_OPEN_TRANSACTIONS


def test_every_module_has_a_subject() -> None:
    assert [path.name for path in modules() if path.name in TOOLBOXES] == []


def test_functions_are_short() -> None:
    lengths = list(function_lengths())
    numbers = [length for length, _ in lengths]

    assert [place for length, place in lengths if length > MAX_FUNCTION_LINES] == []
    assert percentile_95(numbers) <= MAX_FUNCTION_LINES_OF_95_PERCENT
    assert median(numbers) <= MAX_MEDIAN_FUNCTION_LINES


def test_files_are_short() -> None:
    numbers = [len(path.read_text().splitlines()) for path in modules()]

    assert percentile_95(numbers) <= MAX_FILE_LINES_OF_95_PERCENT


def percentile_95(numbers: list[int]) -> float:
    return quantiles(numbers, n=20)[-1]


def test_tenants_has_few_rooms() -> None:
    rooms = {path.stem for path in (PROJECT / "tenants").iterdir() if not path.name.startswith((".", "_"))}

    assert len(rooms - NAMED_BY_DJANGO) <= MAX_ROOMS, sorted(rooms)


def test_every_folder_says_in_one_sentence_what_happens_there() -> None:
    """The sentence is the first paragraph of the docstring of `__init__.py`."""
    paragraphs = {
        str(path.relative_to(PROJECT)): (ast.get_docstring(syntax_tree(path)) or "").split("\n\n")[0]
        for path in modules()
        if path.name == "__init__.py"
    }

    assert [name for name, text in paragraphs.items() if not re.fullmatch(r"\S.*?\.", text, re.S)] == []
    assert [name for name, text in paragraphs.items() if re.search(r"\.\s", text)] == []


def test_no_lock_is_held_by_a_session() -> None:
    """In PgBouncer's transaction mode the session of a lock may serve another client in between."""
    session_lock = re.compile(r"pg_(try_)?advisory_(lock|unlock)")

    assert [str(path) for path in modules() if session_lock.search(path.read_text())] == []


SDK = {"clerk_backend_api", "httpx", "pydantic"}
NEEDED_BY_SOME = SDK | {
    "structlog",
    "prometheus_client",
    "rich",
    "dns",
    "jwt",
    "cryptography",
    "django.test",
    "drf_spectacular.views",
}
NEEDED_BY_PAGES = {
    "requests",
    "yaml",
    "rest_framework.views",
    "unfold.admin",
    "tenants.admin",
    "tenants.api",
    "tenants.services",
    "tenants.tasks",
    "clerk_integration.tasks",
}


@pytest.mark.parametrize(
    ("start", "heavy"),
    [
        ("import django; django.setup()", NEEDED_BY_SOME | NEEDED_BY_PAGES),
        ("run('check'); run('help')", NEEDED_BY_SOME),
        ("run('help'); import clerk_integration.organizations, clerk_integration.instance", SDK),
    ],
    ids=["django.setup", "check and help", "what calls Clerk"],
)
def test_start_does_not_import_what_only_some_commands_need(start: str, heavy: set[str]) -> None:
    """System checks and the list of commands import every module that a command starts with."""
    script = (
        "import os, runpy, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'\n"
        "def run(command):\n"
        "    sys.argv = ['manage.py', command]\n"
        "    try: runpy.run_path('manage.py', run_name='__main__')\n"
        "    except SystemExit: pass\n"
        f"{start}\n"
        "assert 'tenants.models' in sys.modules\n"
        "print('IMPORTED', *sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={"DEBUG": "true", "ENV_FILE": os.devnull, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert heavy & set(run.stdout.rpartition("IMPORTED")[2].split()) == set()


def collected(hash_seed: str) -> list[str]:
    """The names of all tests, as a process of its own collects them."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-p", "no:randomly", "-m", "", "--collect-only", "-q"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in run.stdout.splitlines() if "::" in line]


@pytest.mark.slow
def test_tests_have_the_same_names_whenever_they_are_collected() -> None:
    """Two workers of one run collect for themselves; a name made of the time or of a hash stops both."""
    first = collected("1")
    time.sleep(1.1)

    assert collected("2") == first
