"""Send tokens that name keys of their own, and measure what honest clients notice.

    uv run python -m tests.chaos.forged_keys [--requests 10000] [--clients 50] [--per-second 200]

Honest clients list their tenants, first alone and then beside the forged tokens, each of which names a key id
that Clerk does not have. The forgers are a process of their own and send at random times, so that the honest
clients neither share an interpreter with them nor meet all of them at the same time. The exit code is 0 if
every forged token is refused, every honest request succeeds, and the p95 of honest clients is at most 1.5
times the quiet one.
"""

import argparse
import base64
import http.client
import json
import multiprocessing
import os
import random
import secrets
import sys
import threading
import time
from collections import Counter
from statistics import quantiles

import django

import tests.environment  # noqa: F401  (before Django reads its settings)

LIMIT = 1.5
HONEST = 4
QUIET_SECONDS = 20.0
LIST = "/api/v1/tenants/me/get-tenants"


def main() -> int:
    """Print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--per-second", type=float, default=200)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from tests.benchmarks._clerk import child_environment, local_clerk
    from tests.benchmarks._database import own_database
    from tests.web_server import web_server

    with own_database(durable=False), local_clerk(organizations=8, users=8, members=3) as clerk:
        # Without CLERK_JWT_KEY the server fetches Clerk's keys, so that an unknown key id could cost a fetch.
        environment = child_environment(clerk) | {"CLERK_ISSUER": clerk.description["issuer"]}
        environment |= {
            "CLERK_JWT_KEY": "",
            "DEBUG": "false",
            "ALLOWED_HOSTS": "127.0.0.1",
            "SECRET_KEY": secrets.token_hex(32),
        }
        tokens = [
            clerk.token(user["id"], expiresIn=3600) for user in clerk.api("GET", "/users", limit=HONEST)
        ]
        with web_server("--workers", "2", "--threads", "4", output=None, **environment) as port:
            _honest(port, tokens, 3.0)  # fills the mirror
            clerk.clear_requests()
            quiet, failed = _honest(port, tokens, QUIET_SECONDS)
            pause = options.clients / options.per_second
            work = (port, tokens[0], options.clients, options.requests // options.clients, pause)
            with multiprocessing.get_context("spawn").Pool(1) as forgers:
                answers = forgers.apply_async(_forge_all, work)
                loaded, failed_beside = _honest(port, tokens, options.requests / options.per_second)
                refused = answers.get()
    ratio = loaded / quiet
    print(
        f"honest p95: quiet {quiet:.1f} ms, beside {sum(refused.values())} forged tokens {loaded:.1f} ms,"
        f" {ratio:.2f} times (limit {LIMIT}); answers to forged tokens {dict(refused)};"
        f" honest failures {failed + failed_beside}"
    )
    return int(ratio > LIMIT or set(refused) != {401} or failed + failed_beside > 0)


def _honest(port: int, tokens: list[str], seconds: float) -> tuple[float, int]:
    """List for a time with each token; return the p95 in milliseconds and the number of failures."""
    took: list[float] = []
    failed: list[int] = []

    def work(token: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sent = time.monotonic()
            status = _status(connection, token)
            took.append((time.monotonic() - sent) * 1000)
            if status != 200:
                failed.append(status)
            time.sleep(0.05)
        connection.close()

    threads = [threading.Thread(target=work, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return quantiles(took, n=100, method="inclusive")[94], len(failed)


def _forge_all(port: int, token: str, clients: int, count: int, pause: float) -> Counter[int]:
    """Send `count` forged tokens from each client, and count the statuses of the answers."""
    refused: Counter[int] = Counter()
    forgers = [
        threading.Thread(target=_forge, args=(port, token, count, pause, refused)) for _ in range(clients)
    ]
    for thread in forgers:
        thread.start()
    for thread in forgers:
        thread.join()
    return refused


def _forge(port: int, token: str, count: int, pause: float, refused: Counter[int]) -> None:
    """Send `count` tokens, each with a key id of its own; `pause` seconds apart on average."""
    _, payload, signature = token.split(".")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    due = time.monotonic()
    for _ in range(count):
        due += random.expovariate(1 / pause)
        time.sleep(max(due - time.monotonic(), 0))
        header = json.dumps({"alg": "RS256", "typ": "JWT", "kid": f"ins_{secrets.token_hex(12)}"}).encode()
        forged = f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{payload}.{signature}"
        refused[_status(connection, forged)] += 1
    connection.close()


def _status(connection: http.client.HTTPConnection, token: str) -> int:
    try:
        connection.request("GET", LIST, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return response.status


if __name__ == "__main__":
    sys.exit(main())
