"""What a command prints while it works."""

import json
from io import StringIO

import pytest
from django.core.management.base import OutputWrapper

from clerk_integration.management.progress import CommandProgress


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Acme\nfailed: 0", r"Acme\nfailed: 0"),
        ("Acme\r\x1b[2K", r"Acme\r\x1b[2K"),
        ("Acme\u2028\u202e", r"Acme\u2028\u202e"),
        ("Ärzte & Söhne", "Ärzte & Söhne"),
    ],
)
def test_note_with_a_line_break_or_control_characters_stays_one_line(name: str, shown: str) -> None:
    output = StringIO()

    CommandProgress(OutputWrapper(output)).note(f"tenant 1 ({name})")

    assert output.getvalue() == f"tenant 1 ({shown})\n"


def test_finish_prints_the_summary_by_lines_or_as_json() -> None:
    for as_json, expected in ((False, "to link: 1,000\n"), (True, json.dumps({"to_link": 1000}) + "\n")):
        output = StringIO()

        CommandProgress(OutputWrapper(output), as_json=as_json).finish({"to_link": 1000})

        assert output.getvalue() == expected
