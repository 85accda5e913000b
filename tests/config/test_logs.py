"""The log lines of requests, as a process of its own writes them."""

import json
import os
import subprocess
import sys

from tests.children import PROJECT

SCRIPT = """
import logging
import django
django.setup()
from django.test import Client
Client().get("/nothing?token=secret")
logging.getLogger("django.server").info('"%s" %s %s', "GET /path?token=secret HTTP/1.1", 200, 5)
"""


def test_log_lines_of_requests_hold_no_query_string() -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "LOG_FORMAT": "json"}
    environment |= {"LOG_LEVEL": "INFO", "DATABASE_URL": "postgres://me@127.0.0.1:9/none", "DEBUG": "false"}
    environment |= {"PYTHONWARNINGS": "ignore:No directory at"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "Not Found: /nothing",
        '"GET /path HTTP/1.1" 200 5',
    ]
    assert "secret" not in done.stderr
