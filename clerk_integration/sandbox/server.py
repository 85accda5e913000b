"""The HTTP server of the local Clerk. It has one thread per connection and listens on 127.0.0.1 only."""

import logging
import os
import re
import socket
import socketserver
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clerk_integration.sandbox.application import HOST, answer
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import error_reply
from clerk_integration.sandbox.local_clerk import Keys, LocalClerk, Options
from clerk_integration.sandbox.messages import NoReply, Reply, Request

MAX_BODY_BYTES = 1024 * 1024
IDLE_SECONDS = 60.0
STOP_SECONDS = 5.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_DIGITS = re.compile(r"\d{1,12}", re.ASCII)

logger = logging.getLogger(__name__)


class SandboxServer:
    """A local Clerk that listens on 127.0.0.1. Port 0 means any free port. `options` are fields of Options.

    Without `keys`, create new keys. Raise ApiError for invalid options, OSError if the port is in use.
    """

    def __init__(self, port: int = 0, *, keys: Keys | None = None, **options: Any) -> None:
        parsed = Options.parse(options)
        self._server = _Server(port)
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._clerk = self._server.clerk = LocalClerk(self.url, parsed, keys)
        self._clerk.refuse_connections = self._refuse_connections
        self._stopping = threading.Event()
        self._outage: threading.Thread | None = None

    @property
    def description(self) -> dict[str, str]:
        """The URL and the keys that a client of the first instance needs."""
        return self._clerk.first.description

    @property
    def private_pem(self) -> str:
        """The private key of the first instance in PEM, for `Keys.private_pem` of a later server."""
        return self._clerk.first.tokens.private_pem

    def start(self) -> None:
        """Serve in a background thread."""
        self._server.start()

    def stop(self) -> None:
        """Stop serving, close every connection and free the port."""
        self._stopping.set()
        if self._outage is not None:
            self._outage.join()
        self._clerk.stop()
        self._server.stop()

    def _refuse_connections(self, seconds: float) -> None:
        """Close the port and every connection for `seconds`; do nothing if an outage is already active."""

        def refuse() -> None:
            self._server.stop()
            self._stopping.wait(seconds)
            self._server = _Server(self._server.server_port)
            self._server.clerk = self._clerk
            if not self._stopping.is_set():
                self._server.start()

        if self._outage is None or not self._outage.is_alive():
            self._outage = threading.Thread(target=refuse, name="clerk-sandbox-outage", daemon=True)
            self._outage.start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    clerk: LocalClerk

    def __init__(self, port: int) -> None:
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((HOST, port), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), name="clerk-sandbox", daemon=True
        )

    def start(self) -> None:
        """Serve in a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, free the port, close every connection and wait a short time for the threads."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, timeout=STOP_SECONDS)

    def server_bind(self) -> None:
        """Bind without the DNS lookup of the base class, which may take seconds."""
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
        """Print nothing for a client that disconnected. The handler logs all other errors and answers 500."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = default_request_version = "HTTP/1.1"
    server_version, sys_version = "ClerkSandbox", ""
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    wbufsize = -1
    """Buffer the reply, so that the head and the body are sent together."""

    def _handle(self) -> None:
        try:
            reply = self._reply()
        except NoReply as none:
            self.close_connection = True
            if none.reset:
                self._reset()
            return
        self._send(reply)
        if reply.after is not None:
            self.wfile.flush()
            reply.after()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle  # noqa: N815

    def _reply(self) -> Reply:
        try:
            request = Request.build(self.command, self.path, self.headers.items(), self._read_body())
        except ApiError as error:
            self.close_connection = True
            return error_reply(error)
        try:
            return answer(self.server.clerk, request)
        except NoReply:
            raise
        except Exception:
            logger.exception("%s %s could not be answered", request.method, request.path)
            return error_reply(ApiError("internal_clerk_error"))

    def _read_body(self) -> bytes:
        """Read a body of Content-Length bytes; raise `bad_request` for a body of unknown length."""
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
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _reset(self) -> None:
        """Close the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        os.close(self.connection.detach())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer an invalid HTTP request with an error in Clerk's format."""
        self.close_connection = True
        self._send(error_reply(ApiError("bad_request", message)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Print nothing; GET /sandbox/requests shows the requests to Clerk's API."""
