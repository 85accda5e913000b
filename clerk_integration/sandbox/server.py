"""The HTTP server around a local Clerk: one thread per connection, on 127.0.0.1 only."""

import logging
import re
import socket
import socketserver
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clerk_integration.sandbox.application import answer, error_reply
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.limits import RateLimit
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.records import SlugMode
from clerk_integration.sandbox.seed import Seed
from clerk_integration.sandbox.webhook_options import WebhookOptions

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1024 * 1024
IDLE_SECONDS = 60.0
STOP_SECONDS = 5.0

_DIGITS = re.compile(r"\d{1,12}", re.ASCII)

logger = logging.getLogger(__name__)


class SandboxServer:
    """A local Clerk that listens on 127.0.0.1; port 0 means any free port.

    `organizations`, `users` and `memberships_per_organization` describe what it starts with;
    `latency_ms` delays every call of Clerk's API; `rate_limit` is the limit of a development or a live
    instance, or none; every change is told to `webhook_url`, retries scaled by `webhook_retry_scale`.
    Raises ValueError for an impossible population or URL and OSError for a port in use.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        seed: int = 0,
        organizations: int = 0,
        users: int = 0,
        memberships_per_organization: int = 0,
        latency_ms: float = 0,
        rate_limit: RateLimit = "none",
        slugs: SlugMode = "enabled",
        webhook_url: str | None = None,
        webhook_retry_scale: float = 1.0,
    ) -> None:
        self._clerk = LocalClerk(
            Seed(seed, organizations, users, memberships_per_organization),
            slug_disabled=slugs == "disabled",
            rate_limit=rate_limit,
            latency_ms=latency_ms,
            webhooks=WebhookOptions(url=webhook_url, retry_scale=webhook_retry_scale),
        )
        self._server = _Server(port, self._clerk)
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._clerk.tokens.issuer = self.url
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="clerk-sandbox",
            daemon=True,
        )

    @property
    def description(self) -> dict[str, str]:
        """What a client needs to know; the keys are made anew for every server."""
        return {
            "apiUrl": f"{self.url}/v1",
            "secretKey": self._clerk.secret_key,
            "jwtKey": self._clerk.tokens.public_pem,
            "issuer": self.url,
            "instanceId": self._clerk.instance_id,
            "webhookSigningSecret": self._clerk.webhook_signing_secret,
        }

    def start(self) -> None:
        """Serve in a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, close every connection and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._clerk.stop()
        self._server.close_connections()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, clerk: LocalClerk) -> None:
        self.clerk = clerk
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: a client that went away is no news, and our own errors are answered with 500."""

    def close_connections(self) -> None:
        """Close what is open and wait until its threads have let go."""
        with self._changed:
            for connection in self._connections:
                _shut(connection)
            self._changed.wait_for(lambda: not self._connections, timeout=STOP_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    server_version = "ClerkSandbox"
    sys_version = ""

    def _handle(self) -> None:
        reply = self._reply()
        if reply is None:
            self.close_connection = True
        else:
            self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle  # noqa: N815

    def _reply(self) -> Reply | None:
        try:
            request = Request.build(self.command, self.path, self.headers.items(), self._read_body())
        except ApiError as error:
            self.close_connection = True
            return error_reply(error)
        try:
            return answer(self.server.clerk, request)
        except Exception:
            logger.exception("%s %s could not be answered", request.method, request.path)
            return error_reply(ApiError("internal_clerk_error"))

    def _read_body(self) -> bytes:
        """Read the body that Content-Length announces; refuse others, because we could not skip them."""
        lengths = self.headers.get_all("Content-Length", ["0"])
        if "Transfer-Encoding" in self.headers or len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
            raise ApiError("bad_request", "The body needs exactly one Content-Length, a number.")
        length = int(lengths[0])
        if length > MAX_BODY_BYTES:
            raise ApiError("request_body_too_large", f"At most {MAX_BODY_BYTES} bytes.")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ApiError("bad_request", "The body is shorter than its Content-Length.")
        return body

    def _send(self, reply: Reply) -> None:
        head = [
            f"HTTP/1.1 {reply.status} {_phrase(reply.status)}",
            f"Date: {self.date_time_string()}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
            f"Connection: {'close' if self.close_connection else 'keep-alive'}",
        ]
        body = b"" if self.command == "HEAD" else reply.body
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP in Clerk's error shape, then hang up."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        self._send(error_reply(ApiError("bad_request", message)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing; GET /sandbox/requests tells what was called."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
