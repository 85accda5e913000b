"""How a command ends."""

import os
import subprocess
import sys

import pytest

COMMAND = """
import sys
from django.conf import settings
settings.configure()
from clerk_integration.management.base import SummaryCommand

class Command(SummaryCommand):
    requires_system_checks = []
    def handle(self, *args, **options):
        for line in range(int(sys.argv[2])):
            self.stdout.write(f"line {line}")

Command().run_from_argv(["manage.py", "write"])
"""


@pytest.mark.parametrize("lines", [1, 100_000])
def test_command_whose_reader_has_ended_says_so_in_one_line(lines: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "write", str(lines)],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (
        1,
        "CommandError: The reader of the output has ended, so this command stopped."
        " What was committed before is kept.\n",
    )
