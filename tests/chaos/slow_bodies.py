"""Occupy the web server with slow requests, and measure how fast `/healthz` answers meanwhile.

    uv run python -m tests.chaos.slow_bodies [--connections 64] [--seconds 20] [--kind body]

Starts gunicorn with `config.gunicorn` (2 workers x 4 threads) and without a database. Every connection sends
one byte a second, and is opened again when the server closes it. The exit code is 0 if the 95th percentile of
`/healthz` is below LIMIT_MS and no request to `/healthz` failed. Compare with gunicorn's own worker:
`--worker-class gthread`.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress

from tests.web_server import web_server

LIMIT_MS = 500.0
PATH = "/api/v1/webhooks/clerk"

HEADS = {
    "body": f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n",
    "chunked": f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3E8\r\n",
    "headers": f"POST {PATH} HTTP/1.1\r\nX-Long: ",
    "silent": "",
    "pipelined": "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n",
}


class SlowClients:
    """Connections that send one byte a second; counts the status lines that they receive."""

    def __init__(self, port: int, kind: str, connections: int) -> None:
        self.answers: Counter[str] = Counter()
        self._address = ("127.0.0.1", port)
        self._kind = kind
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._connect_again) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close all connections."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _connect_again(self) -> None:
        while not self._stopped.is_set():
            with suppress(OSError), socket.create_connection(self._address, timeout=1) as connection:
                connection.sendall(HEADS[self._kind].encode())
                self._send_slowly(connection)

    def _send_slowly(self, connection: socket.socket) -> None:
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                answer = connection.recv(4096)
                if not answer:
                    return
                self.answers[answer.split(b"\r\n")[0].decode()] += 1
            if self._kind != "silent":
                connection.send(b"x")


def latencies(port: int, seconds: float) -> tuple[list[float], int]:
    """Return the milliseconds of every answer of `/healthz`, and the number of failures."""
    found, failures, end = [], 0, time.monotonic() + seconds
    while (started := time.monotonic()) < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=15).read()
        except OSError:
            failures += 1
        found.append((time.monotonic() - started) * 1000)
        time.sleep(0.05)
    return found, failures


def main() -> int:
    """Print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kind", choices=sorted(HEADS), default="body")
    parser.add_argument("--worker-class", default="config.gunicorn_worker.BufferingWorker")
    options = parser.parse_args()
    server_options = ("--workers", "2", "--threads", "4", "--worker-class", options.worker_class)
    with web_server(*server_options, output=subprocess.DEVNULL) as port:
        clients = SlowClients(port, options.kind, options.connections)
        found, failures = latencies(port, options.seconds)
        clients.stop()
    p50, p95 = (statistics.quantiles(found, n=100, method="inclusive")[q] for q in (49, 94))
    print(f"{options.connections} connections, {options.kind}, {options.worker_class}, {options.seconds:g} s")
    print(f"/healthz: {len(found)} requests, {failures} failed")
    print(f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {max(found):.1f} ms (limit for p95: {LIMIT_MS:.0f} ms)")
    print(f"answers to the slow connections: {dict(clients.answers)}")
    return int(p95 > LIMIT_MS or failures > 0)


if __name__ == "__main__":
    sys.exit(main())
