"""A server on 127.0.0.1 that answers HTTP as badly as the network does.

Each request takes the next of the scripted behaviours; the last one serves all further requests.
`requests` holds what was asked, so that a test can count.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

PROMISED_BYTES = 20
"""Of a body that never comes whole within a deadline of a few seconds."""


class HostileServer:
    """Serve `behaviours` until the `with` block ends; then every connection and thread is gone."""

    def __init__(self, *behaviours: "Behaviour") -> None:
        self.requests: list[str] = []
        self.bodies: list[Any] = []
        self.stopping = threading.Event()
        self._behaviours = list(behaviours)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def api_url(self) -> str:
        """The address to set as CLERK_API_URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def script(self, *behaviours: "Behaviour") -> None:
        """Answer the next requests with these behaviours."""
        self._behaviours[:] = behaviours

    def forget_requests(self) -> None:
        """Count from zero again."""
        with self._lock:
            self.requests.clear()
            self.bodies.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                _shut(connection)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while not self.stopping.is_set() and (request := _read_request(connection)):
                    self._next(*request)(connection, self.stopping)
            except OSError:
                return  # The client went away, or a behaviour closed the connection.

    def _next(self, line: str, body: bytes) -> "Behaviour":
        with self._lock:
            self.requests.append(line)
            self.bodies.append(json.loads(body) if body else None)
            return self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]


Behaviour = Callable[[socket.socket, threading.Event], None]


def respond(
    status: int = 200,
    body: object = None,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Behaviour:
    """Answer whole and at once; `body` is JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": content_type, "Content-Length": str(len(content)), **(headers or {})}

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        connection.sendall(_head(status, lines) + content)

    return behave


def respond_and_close(status: int, body: object) -> Behaviour:
    """Answer whole, and let the client open another connection for its next request."""
    answer = respond(status, body, headers={"Connection": "close"})

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        answer(connection, stopping)
        connection.close()

    return behave


def respond_by(answer: Callable[[], object]) -> Behaviour:
    """Answer 200 with the JSON that `answer` returns at the time of the request."""

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        respond(200, answer())(connection, stopping)

    return behave


def clerk_error(
    status: int, code: str, *, headers: Mapping[str, str] | None = None, **fields: object
) -> Behaviour:
    """Answer with an error in Clerk's form; `fields` go into the error or, as `trace_id`, beside it."""
    error = {"code": code, "message": "short", "long_message": "What Clerk says.", **fields}
    body = {"errors": [error], "clerk_trace_id": "trace_of_the_test"}
    return respond(status, body, headers=headers)


def hang(connection: socket.socket, stopping: threading.Event) -> None:
    """Never answer."""
    stopping.wait()


def drip_headers(connection: socket.socket, stopping: threading.Event) -> None:
    """Send the head one byte a second."""
    _drip(connection, _head(200, {"Content-Type": "application/json", "Content-Length": "2"}), stopping)


def drip_body(connection: socket.socket, stopping: threading.Event) -> None:
    """Send the body one byte a second."""
    lines = {"Content-Type": "application/json", "Content-Length": str(PROMISED_BYTES)}
    connection.sendall(_head(200, lines))
    _drip(connection, b" " * PROMISED_BYTES, stopping)


def reset(connection: socket.socket, stopping: threading.Event) -> None:
    """Reset the connection instead of answering."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection: socket.socket, stopping: threading.Event) -> None:
    """Close the connection instead of answering."""
    connection.close()


def half_body(connection: socket.socket, stopping: threading.Event) -> None:
    """Close the connection in the middle of the body."""
    lines = {"Content-Type": "application/json", "Content-Length": str(PROMISED_BYTES)}
    connection.sendall(_head(200, lines) + b'{"id": "org_')
    connection.close()


def endless_body(connection: socket.socket, stopping: threading.Event) -> None:
    """Send a body that never ends, as fast as it is read."""
    connection.sendall(_head(200, {"Content-Type": "application/json"}))
    while not stopping.is_set():
        connection.sendall(b" " * 1024 * 1024)


def _drip(connection: socket.socket, data: bytes, stopping: threading.Event) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        if stopping.wait(1.0):
            return


def _head(status: int, lines: Mapping[str, str]) -> bytes:
    head = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in lines.items())]
    return "\r\n".join([*head, "", ""]).encode()


def _read_request(connection: socket.socket) -> tuple[str, bytes] | None:
    """Read one request; None when the client has closed the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := connection.recv(65536)):
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return lines[0].removesuffix(" HTTP/1.1"), body


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # Closed already.
