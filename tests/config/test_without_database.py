"""Requests to a process whose database refuses connections: their answers and log lines."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.children import PROJECT

SCRIPT = """
import json, logging, os
import django; django.setup()
from django.test import Client

client = Client(raise_request_exception=False)
client.cookies["sessionid"] = "x" * 32
for path in ("/admin/", "/nothing?token=secret", "/readyz"):
    response = client.get(path)
    answer = {"status": response.status_code, "retry": response.get("Retry-After")}
    print(json.dumps(answer | {"body": response.content.decode()}), flush=True)
logging.getLogger("django.server").info('"%s" %s %s', "GET /path?token=secret HTTP/1.1", 200, 5)
os._exit(0)
"""


@dataclass
class Answers:
    """The answers and log lines of the process, in the order of its requests."""

    admin: dict[str, Any]
    nothing: dict[str, Any]
    readyz: dict[str, Any]
    events: list[str]
    errors: str


@pytest.fixture(scope="module")
def answers() -> Answers:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": "postgres://nobody:secret@127.0.0.1:9/nothing",
        "DEBUG": "false",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
        "PYTHONWARNINGS": "ignore:No directory at",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    admin, nothing, readyz = map(json.loads, done.stdout.splitlines())
    return Answers(admin, nothing, readyz, events, done.stderr)


def test_admin_without_a_database_answers_503_in_one_log_line(answers: Answers) -> None:
    assert (answers.admin["status"], answers.admin["retry"]) == (503, "5")
    assert answers.admin["body"] == "The database cannot be reached. Try again later.\n"
    assert answers.events[0].startswith("GET /admin/: 503 database_unavailable: connection failed")
    assert answers.events[1] == "Not Found: /nothing"


def test_log_lines_of_requests_hold_no_query_string_and_no_password(answers: Answers) -> None:
    assert answers.nothing["status"] == 404
    assert answers.events[1] == "Not Found: /nothing"
    assert answers.events[-1] == '"GET /path HTTP/1.1" 200 5'
    assert "secret" not in answers.errors


def test_readyz_without_a_database_is_unready(answers: Answers) -> None:
    assert answers.readyz["status"] == 503
    checks = json.loads(answers.readyz["body"])["checks"]
    assert checks["database"] == "Unavailable: the database does not answer"
    assert answers.events[2:-1] == [
        "/readyz is now unready. Unavailable: the database does not answer",
        "Service Unavailable: /readyz",
    ]
