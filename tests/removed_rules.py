"""Take one rule away from a copy of the project, to see that tests fail without the rule."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("clerk_integration", "config", "templates", "tenants", "tests", "manage.py", "pyproject.toml")
NO_TESTS_FAILED, TESTS_FAILED = 0, 1


def copy_project(directory: Path) -> Path:
    """Copy the project into the directory, and return the directory."""
    for part in PARTS:
        source, target = PROJECT / part, directory / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return directory


def remove_rule(module: Path, present: str, absent: str) -> None:
    """Replace the only occurrence of `present` in the module by `absent`."""
    text = module.read_text()
    assert text.count(present) == 1
    module.write_text(text.replace(present, absent))


def run_tests(project: Path, path: str) -> int:
    """Run the tests at `path` in the copy until one fails, and return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", path]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False).returncode
