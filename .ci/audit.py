"""Look up the pinned production packages in the database of known vulnerabilities: `uv run .ci/audit.py`.

Fail if a package has a vulnerability that ACCEPTED does not name. Say so, and succeed, if the database cannot
be reached: a build without the internet must not fail, and must not claim that it has looked.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
TIMEOUT_SECONDS = 60

ACCEPTED: dict[str, str] = {}
"""Ids of vulnerabilities that do not concern this project, with the reason."""


def report() -> list[dict[str, object]]:
    """Return what pip-audit found about each package; nothing if it could not ask."""
    command = [
        "pip-audit",
        "--requirement",
        str(LOCK),
        "--disable-pip",
        "--format",
        "json",
        "--timeout",
        "15",
    ]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
        return list(json.loads(done.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return []


def main() -> None:
    """Print what was audited, and exit with 1 if a vulnerability is found."""
    packages = report()
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        print(f"skipped: no package of {LOCK.name} was audited; the database cannot be reached")
        return
    print(f"{len(audited)} of {len(packages)} packages of {LOCK.name} were audited")
    found = [
        f"{package['name']} {package['version']}: {vuln['id']}, fixed in {', '.join(vuln['fix_versions'])}"
        for package in audited
        for vuln in package["vulns"]  # type: ignore[attr-defined]
        if vuln["id"] not in ACCEPTED
    ]
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main()
