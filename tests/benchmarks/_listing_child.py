"""A web process with clients that list their tenants; prints what each list took.

It reads one JSON object from the first line of stdin (`tokens`, one list of them for each client, and
`pause`), lists until stdin is closed, and prints one JSON list of [start, seconds, status, X-Clerk-Sync].
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Event
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def main() -> None:
    """Run the clients, each in a thread, until stdin is closed."""
    django.setup()
    parameters = json.loads(sys.stdin.readline())
    pause, stopping = parameters["pause"], Event()
    with ThreadPoolExecutor(len(parameters["tokens"])) as pool:
        clients = [pool.submit(_list, tokens, pause, stopping) for tokens in parameters["tokens"]]
        sys.stdin.read()
        stopping.set()
    sys.stdout.write(json.dumps([measured for client in clients for measured in client.result()]) + "\n")


def _list(tokens: Sequence[str], pause: float, stopping: Event) -> list[Any]:
    from django.test import Client

    http = Client(raise_request_exception=False)
    measured: list[Any] = []
    for token in cycle(tokens):
        if stopping.wait(pause):
            return measured
        started = time.time()
        answer = http.get("/api/v1/tenants/me/get-tenants", headers={"Authorization": f"Bearer {token}"})
        seconds = time.time() - started
        measured.append([started, seconds, answer.status_code, answer.headers.get("X-Clerk-Sync", "")])
    return measured


if __name__ == "__main__":
    main()
