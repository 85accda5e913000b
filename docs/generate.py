"""Fill the generated parts of the documentation: `uv run python -m docs.generate [--check]`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; `parts` has the
function for each name. With `--check`, nothing is written, and the exit code is 1 if a part is not current.
"""

import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import django

DOCS = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def parts() -> dict[str, Callable[[], str]]:
    """Return the function that makes each part; needs Django."""
    from docs import from_code, from_metrics, from_openapi

    return {
        "settings": from_code.settings,
        "commands": from_code.commands,
        "signals": from_code.signals,
        "permissions": from_code.permissions,
        "admin-actions": from_code.admin_actions,
        "sandbox": from_code.sandbox,
        "benchmarks": from_code.benchmarks,
        "membership-rule": from_code.membership_rule,
        "metrics-of-requests": from_metrics.metrics_of_requests,
        "metrics-of-processes": from_metrics.metrics_of_processes,
        "metrics-of-deployment": from_metrics.metrics_of_deployment,
        "operations": from_openapi.operations,
        "schemas": from_openapi.schemas,
        "error-codes": from_openapi.error_codes,
    }


def outdated() -> dict[Path, str]:
    """Return the pages with a generated part that is not current, as they should be."""
    makers = parts()

    def fill(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        return f"{begin}\n{makers[name]().strip()}\n\n{end}"

    pages = {path: path.read_text() for path in sorted(DOCS.rglob("*.md"))}
    current = {path: PART.sub(fill, text) for path, text in pages.items()}
    return {path: text for path, text in current.items() if text != pages[path]}


def main(arguments: list[str]) -> int:
    """Write the pages, or name those that are not current; return the exit code."""
    parser = ArgumentParser(prog="python -m docs.generate", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("DEBUG", "true")
    django.setup()
    pages = outdated()
    for path, text in pages.items():
        if not check:
            path.write_text(text)
        sys.stdout.write(f"{path.relative_to(DOCS)}\n")
    return int(bool(pages) and check)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
