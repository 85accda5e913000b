"""Run `manage.py` commands in the process of the tests, with their exit code and output."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from django.core.management import get_commands, load_command_class


@dataclass
class Finished:
    """What a command that has ended leaves behind."""

    code: int
    output: str
    errors: str


def manage(name: str, *arguments: str) -> Finished:
    """Run the command as `manage.py` does, which closes the connections to the database at the end."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        command = load_command_class(get_commands()[name], name)
        try:
            command.run_from_argv(["manage.py", name, *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
    return Finished(code, output.getvalue(), errors.getvalue())
