"""A JWKS endpoint on 127.0.0.1 that counts how often it is asked and can rotate, fail or hang."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JwksServer(ThreadingHTTPServer):
    """Serves `keys` under `/v1/jwks`; `status` other than 200 fails, a cleared `answers` hangs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.fetches = 0
        self.counting = threading.Lock()

    @property
    def api_url(self) -> str:
        """What CLERK_API_URL must be for this server to be asked."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JwksServer

    def do_GET(self) -> None:
        with self.server.counting:
            self.server.fetches += 1
        self.server.answers.wait()
        body = json.dumps({"keys": self.server.keys}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Say nothing."""


@contextmanager
def running_jwks_server() -> Iterator[JwksServer]:
    """Serve in a thread until the block ends."""
    server = JwksServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()
