"""gunicorn's threaded worker, in which a request takes a thread only when it has arrived completely.

gunicorn's own worker reads headers and bodies in its threads. There, a few clients that send one byte a
second occupy all threads, without any login, and no other request is answered.
"""

import json
import re
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

DEADLINE_SECONDS = 10.0
"""How long a request may take to arrive."""

MAX_BODY_BYTES = 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024
"""Of the request line and all headers together; `config.gunicorn` limits each header."""

MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""Of all incomplete requests of one worker together."""

RECEIVE_BYTES = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

REFUSALS = {
    HTTPStatus.REQUEST_TIMEOUT: ("request_timeout", "The request took longer than 10 seconds to arrive."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("body_too_large", "The body is larger than 1 MiB."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("headers_too_large", "The headers are larger than 64 KiB."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("busy", "Too many requests are arriving. Try again later."),
}


class RequestTooLarge(Exception):
    """The head or the body is larger than its limit; the argument is the status to answer."""


HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
BODY_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]+")


class IncomingRequest:
    """The part of one request that has arrived."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.expects_continue = False
        self._length: int | None = None
        self._body_start = self._chunk_start = 0

    def is_complete(self) -> bool:
        """Return True if gunicorn can read the request without waiting; raise RequestTooLarge.

        A malformed request counts as complete: gunicorn answers it with 400.
        """
        if not self._body_start and not self._read_head():
            if len(self.data) > MAX_HEAD_BYTES:
                raise RequestTooLarge(HEAD_TOO_LARGE)
            return False
        if self._length is None:
            return self._is_last_chunk_here()
        if self._length > MAX_BODY_BYTES:
            raise RequestTooLarge(BODY_TOO_LARGE)
        return len(self.data) >= self._body_start + self._length

    def _read_head(self) -> bool:
        head, separator, _ = bytes(self.data).partition(b"\r\n\r\n")
        if not separator:
            return False
        fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        self._body_start = self._chunk_start = len(head) + len(separator)
        self.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        if b"transfer-encoding" not in headers:
            length = headers.get(b"content-length", b"")
            self._length = int(length) if length.isdigit() else 0
        return True

    def _is_last_chunk_here(self) -> bool:
        while (line_end := self.data.find(b"\r\n", self._chunk_start)) >= 0:
            size = CHUNK_SIZE.match(self.data, self._chunk_start, line_end)
            if size is None:
                return True
            if int(size[0], 16) == 0:
                return self.data.find(b"\r\n\r\n", line_end) >= 0
            chunk_end = line_end + 2 + int(size[0], 16) + 2
            self._check_chunked_size(chunk_end)
            if chunk_end > len(self.data):
                return False
            self._chunk_start = chunk_end
        self._check_chunked_size(len(self.data))
        return False

    def _check_chunked_size(self, end: int) -> None:
        # The lines between the chunks take space, too; `chunked_bodies` counts the body alone.
        if end - self._body_start > MAX_BODY_BYTES + MAX_HEAD_BYTES:
            raise RequestTooLarge(BODY_TOO_LARGE)


@dataclass(eq=False)
class Arrival:
    """A connection whose request is arriving."""

    conn: TConn
    request: IncomingRequest
    deadline: float = field(default_factory=lambda: time.monotonic() + DEADLINE_SECONDS)
    is_refused: bool = False


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # untyped library
    """Receives requests in the event loop, and passes complete requests to the threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the order of their deadlines.
        self._arrivals: dict[TConn, Arrival] = {}
        self._buffered_bytes = 0

    def enqueue_req(self, conn: TConn) -> None:
        """Receive a request. gunicorn calls this for new connections and for further requests on them."""
        if self.cfg.is_ssl:
            super().enqueue_req(conn)
            return
        # gunicorn has read the beginning of a pipelined request.
        data = conn.parser.unreader.take_buffered() if conn.parser else b""
        conn.sock.setblocking(False)
        arrival = Arrival(conn, IncomingRequest(data))
        self._arrivals[conn] = arrival
        self._buffered_bytes += len(data)
        self.poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._receive(arrival))
        self._receive(arrival)

    def murder_pending(self) -> None:
        """Refuse requests that have not arrived in time. gunicorn calls this once a second."""
        super().murder_pending()
        now = time.monotonic()
        for arrival in [arrival for arrival in self._arrivals.values() if arrival.deadline < now]:
            if arrival.request.data and not arrival.is_refused:
                self._refuse(arrival, HTTPStatus.REQUEST_TIMEOUT)
            self._close(arrival)

    def _receive(self, arrival: Arrival) -> None:
        try:
            data = arrival.conn.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"":
            # An incomplete request is worth no answer: gunicorn closes the connection silently, too.
            self._close(arrival)
        elif not arrival.is_refused:
            self._add(arrival, data or b"")

    def _add(self, arrival: Arrival, data: bytes) -> None:
        request = arrival.request
        request.data += data
        self._buffered_bytes += len(data)
        try:
            if request.is_complete():
                self._pass_to_thread(arrival)
            elif self._buffered_bytes > MAX_BUFFERED_BYTES:
                self._refuse(arrival, HTTPStatus.SERVICE_UNAVAILABLE)
            elif request.expects_continue:
                request.expects_continue = False
                self._send(arrival, CONTINUE)
        except RequestTooLarge as error:
            self._refuse(arrival, error.args[0])

    def _pass_to_thread(self, arrival: Arrival) -> None:
        conn = arrival.conn
        self._forget(arrival)
        conn.init()
        conn.parser.unreader.unread(bytes(arrival.request.data))
        conn.data_ready = True
        super().enqueue_req(conn)

    def _refuse(self, arrival: Arrival, status: HTTPStatus) -> None:
        """Answer in the API's error shape, and ignore the rest of the request until the deadline.

        Closing at once would reset the connection, and the client might lose the answer.
        """
        arrival.is_refused = True
        code, detail = REFUSALS[status]
        kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "client_error"
        errors = [{"code": code, "detail": detail, "attr": None}]
        body = json.dumps({"type": kind, "errors": errors}).encode()
        retry = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n{retry}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._send(arrival, head.encode() + body)
        with suppress(OSError):
            arrival.conn.sock.shutdown(socket.SHUT_WR)
        self._buffered_bytes -= len(arrival.request.data)
        arrival.request.data.clear()

    def _send(self, arrival: Arrival, data: bytes) -> None:
        # The send buffer of a connection without an answer is empty, so this does not block.
        with suppress(OSError):
            arrival.conn.sock.send(data)

    def _close(self, arrival: Arrival) -> None:
        self._forget(arrival)
        self.nr_conns -= 1
        arrival.conn.close()

    def _forget(self, arrival: Arrival) -> None:
        del self._arrivals[arrival.conn]
        self._buffered_bytes -= len(arrival.request.data)
        self.poller.unregister(arrival.conn.sock)
