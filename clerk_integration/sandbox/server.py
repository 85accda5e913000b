"""The HTTP server around a local Clerk: one thread per connection, on 127.0.0.1 only."""

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

from clerk_integration.sandbox.application import answer
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import error_reply
from clerk_integration.sandbox.local_clerk import Keys, LocalClerk, Options
from clerk_integration.sandbox.messages import NoReply, Reply, Request

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1024 * 1024
IDLE_SECONDS = 60.0
STOP_SECONDS = 5.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_DIGITS = re.compile(r"\d{1,12}", re.ASCII)

logger = logging.getLogger(__name__)


class SandboxServer:
    """A local Clerk that listens on 127.0.0.1; port 0 means any free port, `options` are those of Options.

    Without `keys`, they are made anew. Raise ApiError for impossible options, OSError for a port in use.
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
        """What a client of the first instance needs to know."""
        return self._clerk.first.description

    @property
    def private_pem(self) -> str:
        """The private key of the first instance, with which its keys can be used again."""
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
        """Close the port and every connection for so many seconds; do nothing during another outage."""

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
        """Stop serving, free the port, close every connection and wait for its thread."""
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
        """Say nothing about clients that went away; our own errors are answered with 500."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = default_request_version = "HTTP/1.1"
    server_version, sys_version = "ClerkSandbox", ""
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    wbufsize = -1
    """Replies are buffered, so that head and body leave together."""

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
        """Close the connection so that the client sees a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        os.close(self.connection.detach())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is no HTTP in Clerk's shape."""
        self.close_connection = True
        self._send(error_reply(ApiError("bad_request", message)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing; GET /sandbox/requests shows what was called."""
