"""The generated parts of the documentation are current and complete."""

import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from clerk_integration.conf import DEFAULTS, REQUEST_LIMITS
from docs import from_code, from_openapi
from docs.generate import DOCS, outdated
from tenants import scoping
from tenants.services import TenantService

CONFIG = Path(settings.BASE_DIR) / "config"
READ = re.compile(r"""(?:_text|_list|_number|env\.\w+|os\.environ(?:\.get)?)[(\[]"([A-Z_]+)\"""")
"""A read of an environment variable."""

SET_BY_PROGRAMS = {
    "DJANGO_SETTINGS_MODULE",
    "PROMETHEUS_MULTIPROC_DIR",
}


def defaults() -> dict[str, str]:
    return {name.strip("`"): default for name, default, _ in from_code.setting_rows()}


def test_generated_parts_are_current() -> None:
    names = [str(path.relative_to(DOCS)) for path in outdated()]

    assert names == [], "Run: uv run python -m docs.generate"


def test_every_variable_that_config_reads_is_explained() -> None:
    """Write a string below the assignment in config/settings.py."""
    read = {name for path in CONFIG.rglob("*.py") for name in READ.findall(path.read_text())}

    assert read - SET_BY_PROGRAMS - defaults().keys() == set()


def test_every_explained_setting_has_a_meaning_and_one_row() -> None:
    rows = list(from_code.setting_rows())

    assert [name for name, _, meaning in rows if not meaning.strip()] == []
    assert len({name for name, *_ in rows}) == len(rows)


def test_defaults_of_the_apps_are_those_of_the_server() -> None:
    ours = {name: str(value) for name, value in (DEFAULTS | REQUEST_LIMITS).items() if value}
    server = {name: default.strip("`") for name, default in defaults().items()}
    different = {
        name: (value, server[name])
        for name, value in ours.items()
        if not name.startswith("LOG_") and value.removesuffix(".0") != server[name]
    }

    assert different == {}


def test_every_option_of_a_command_has_a_help_text() -> None:
    rows = [line for line in from_code.commands().splitlines() if line.startswith("| `")]

    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_public_name_is_on_the_page_of_python_interfaces() -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    methods = {name for name, value in vars(TenantService).items() if isinstance(value, staticmethod)}
    operations = {"rename", "deactivate", "reactivate", "suspend", "delete", "unlink", "restore"}
    public = {*scoping.__all__, *methods, *operations, "sync_clerk_org_to_db"}

    assert {name for name in public if not re.search(rf"\b{name}\b", page)} == set()


def codes_in(text: str) -> Iterator[str]:
    for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
        yield from re.findall(r"`(\w+)`", row)


def test_every_error_code_is_explained() -> None:
    page = (DOCS / "reference" / "errors.md").read_text()
    explained = set(codes_in(page.partition("<!-- end of error-codes -->")[2]))
    listed = set(re.findall(r"`(\w+)`", from_openapi.error_codes().partition("### Webhooks")[0]))

    assert listed - explained == set()
    assert explained - listed == set()
