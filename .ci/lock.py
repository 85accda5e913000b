"""Renew the pins: `uv run .ci/lock.py` after a change of dependencies, `--upgrade` for new versions.

uv.lock names the registry that it was resolved from and is therefore not committed. Its pins are
written to two places that are: `constraint-dependencies` in pyproject.toml, so that every fresh
clone resolves to the same versions, and requirements.lock, with hashes, for production installs.
"""

import argparse
import re
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PYPROJECT = PROJECT / "pyproject.toml"
LOCK = PROJECT / "requirements.lock"
PINS = re.compile(r"(?<=^constraint-dependencies = \[\n).*?(?=^\]$)", re.DOTALL | re.MULTILINE)


def uv(*arguments: str) -> str:
    """Run uv in the project and return what it printed; raise CalledProcessError when it fails."""
    return subprocess.run(  # noqa: S603
        ["uv", *arguments],  # noqa: S607
        cwd=PROJECT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def write_pins(pins: list[str]) -> None:
    """Replace the pins in pyproject.toml."""
    lines = "".join(f'    "{pin}",\n' for pin in pins)
    text, count = PINS.subn(lambda _: lines, PYPROJECT.read_text(), count=1)
    if count != 1:
        raise SystemExit("pyproject.toml has no list `constraint-dependencies`; nothing was written.")
    PYPROJECT.write_text(text)


def main() -> None:
    """Resolve anew, without the old pins when upgrading, and write both places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that are allowed")
    if parser.parse_args().upgrade:
        write_pins([])
        uv("lock", "--upgrade")
    else:
        uv("lock")
    export = ("export", "--quiet", "--no-emit-project", "--no-annotate", "--no-header")
    write_pins(uv(*export, "--all-groups", "--no-hashes").replace('"', "'").splitlines())
    LOCK.write_text(uv(*export, "--no-dev"))
    uv("lock")


if __name__ == "__main__":
    main()
