"""The migration command, run in the process of the tests."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

Json = dict[str, Any]


@pytest.fixture
def migrate(capsys: pytest.CaptureFixture[str]) -> Callable[..., Json]:
    """Run the command; return its summary, with `code`, `error` and `output`."""

    def run(*arguments: str) -> Json:
        try:
            call_command("migrate_tenants_to_clerk", "--json", *arguments)
            error = None
        except CommandError as failure:
            error = str(failure)
        output = capsys.readouterr().out
        summary = json.loads(output.splitlines()[-1]) if output.strip() else {}
        return {**summary, "code": 0 if error is None else 1, "error": error, "output": output}

    return run
