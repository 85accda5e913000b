"""gunicorn's threaded worker, changed so that no thread waits for a client.

gunicorn's own worker reads requests and sends answers in its threads. A few anonymous clients that send one
byte a second, or do not read their answers, can occupy all threads and block all other requests.
In this worker, the event loop receives requests, and sends the rest of an answer to a slow client.
"""

import json
import re
import selectors
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from config.gunicorn_answers import AnswerSocket, UnsentBytes

DEADLINE_SECONDS = 10.0
"""How long a request may take to arrive."""

ANSWER_SECONDS = 60.0
"""How long the client may take to read an answer."""

MAX_BODY_BYTES = 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024
"""Limit for the request line and all headers together. `config.gunicorn` limits each header."""

MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""Limit for all incomplete requests of one worker together."""

LINGER_SECONDS = 2.0
"""How long a connection stays open after its last answer, unless the client closes it."""

MAX_DIGITS = 10
"""Maximum number of digits in a length. Python refuses to convert thousands of digits."""

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


HEAD_END = b"\r\n\r\n"
HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
BODY_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]+")


class IncomingRequest:
    """The part of one request that has arrived."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.expects_continue = False
        self._length: int | None = None
        self._body_start = self._chunk_start = self._trailers_start = 0
        # The next search starts here. Clients may send single bytes, so do not search old bytes again.
        self._searched = 0

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
        end = self._find(HEAD_END, 0)
        if end < 0:
            return False
        head = bytes(self.data[:end])
        fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        self._body_start = self._chunk_start = end + len(HEAD_END)
        self.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        if b"transfer-encoding" not in headers:
            length = headers.get(b"content-length", b"")
            self._length = int(length.lstrip(b"0")[:MAX_DIGITS] or b"0") if length.isdigit() else 0
        return True

    def _is_last_chunk_here(self) -> bool:
        while not self._trailers_start and (line_end := self._find(b"\r\n", self._chunk_start)) >= 0:
            size = CHUNK_SIZE.match(self.data, self._chunk_start, line_end)
            if size is None:
                return True
            if int(size[0], 16) == 0:
                self._trailers_start = line_end
                break
            chunk_end = line_end + 2 + int(size[0], 16) + 2
            self._check_chunked_size(chunk_end)
            if chunk_end > len(self.data):
                return False
            self._chunk_start = chunk_end
        if self._trailers_start and self._find(HEAD_END, self._trailers_start) >= 0:
            return True
        self._check_chunked_size(len(self.data))
        return False

    def _find(self, separator: bytes, start: int) -> int:
        """Return where the separator is at `start` or later, or -1."""
        found = self.data.find(separator, max(start, self._searched))
        if found < 0:
            self._searched = max(0, len(self.data) - len(separator) + 1)
        return found

    def _check_chunked_size(self, end: int) -> None:
        # This limit includes the lines between the chunks. `chunked_bodies` limits the body alone.
        if end - self._body_start > MAX_BODY_BYTES + MAX_HEAD_BYTES:
            raise RequestTooLarge(BODY_TOO_LARGE)


@dataclass(eq=False)
class Arrival:
    """A connection whose request is arriving, or that is being closed after its last answer."""

    conn: TConn
    request: IncomingRequest
    deadline: float = field(default_factory=lambda: time.monotonic() + DEADLINE_SECONDS)
    is_answered: bool = False


@dataclass(eq=False)
class Departure:
    """A connection whose answer is being sent by the event loop, and the result of gunicorn's thread."""

    conn: TConn
    answer: AnswerSocket
    result: Future[Any]
    deadline: float = field(default_factory=lambda: time.monotonic() + ANSWER_SECONDS)


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # untyped library
    """Passes complete requests to the threads; receives requests and sends long answers in the event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrivals: dict[TConn, Arrival] = {}
        self._buffered_bytes = 0
        # Written by the threads before the event loop reads them.
        self._answers: dict[TConn, AnswerSocket] = {}
        self._departures: dict[TConn, Departure] = {}
        self._unsent_bytes = UnsentBytes()

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

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request without waiting for its client. gunicorn calls this in a thread."""
        if self.cfg.is_ssl:
            return super().handle_request(req, conn)
        sock = conn.sock
        conn.sock = self._answers[conn] = AnswerSocket(sock, self._unsent_bytes)
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock = sock

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Send the rest of an answer, then wait for the next request or close the connection.

        gunicorn calls this in the event loop after a request.
        """
        answer = self._answers.pop(conn, None)
        if answer is None or not answer.unsent:
            self._finish(conn, fs)
        elif conn.sock.fileno() < 0:
            answer.drop()
            self._finish(conn, fs)
        else:
            departure = self._departures[conn] = Departure(conn, answer, fs)
            self.poller.register(conn.sock, selectors.EVENT_WRITE, lambda _: self._flush(departure))

    def _finish(self, conn: TConn, fs: Future[Any]) -> None:
        # gunicorn would wait in the event loop until the client closes the connection, for two seconds.
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
        else:
            self._linger(conn)

    def _flush(self, departure: Departure) -> None:
        try:
            is_sent = departure.answer.flush()
        except OSError:
            self._abort(departure)
            return
        if is_sent:
            self._forget_departure(departure)
            self._finish(departure.conn, departure.result)

    def _abort(self, departure: Departure) -> None:
        self._forget_departure(departure)
        departure.answer.drop()
        self.nr_conns -= 1
        departure.conn.close()

    def _forget_departure(self, departure: Departure) -> None:
        del self._departures[departure.conn]
        self.poller.unregister(departure.conn.sock)

    def murder_pending(self) -> None:
        """Close connections whose request or answer takes too long. gunicorn calls this once a second."""
        super().murder_pending()
        now = time.monotonic()
        for departure in [departure for departure in self._departures.values() if departure.deadline < now]:
            self._abort(departure)
        for arrival in [arrival for arrival in self._arrivals.values() if arrival.deadline < now]:
            if arrival.request.data and not arrival.is_answered:
                self._refuse(arrival, HTTPStatus.REQUEST_TIMEOUT)
            self._close(arrival)

    def _cap_keepalive(self, deadline: float) -> None:
        """Close connections that send nothing by `deadline`. gunicorn calls this when the worker stops."""
        super()._cap_keepalive(deadline)
        for arrival in self._arrivals.values():
            if not arrival.request.data:
                arrival.deadline = min(arrival.deadline, deadline)

    def _receive(self, arrival: Arrival) -> None:
        try:
            data = arrival.conn.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"":
            # Do not answer an incomplete request: gunicorn closes such a connection without an answer, too.
            self._close(arrival)
        elif not arrival.is_answered:
            self._add(arrival, data or b"")

    def _add(self, arrival: Arrival, data: bytes) -> None:
        request = arrival.request
        request.data += data
        self._buffered_bytes += len(data)
        try:
            if request.is_complete():
                self._pass_to_thread(arrival)
                return
        except RequestTooLarge as error:
            self._refuse(arrival, error.args[0])
        if self._buffered_bytes > MAX_BUFFERED_BYTES:
            largest = max(self._arrivals.values(), key=lambda one: len(one.request.data))
            self._refuse(largest, HTTPStatus.SERVICE_UNAVAILABLE)
        if request.expects_continue and not arrival.is_answered:
            request.expects_continue = False
            self._send(arrival, CONTINUE)

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
        self._ignore_rest(arrival)

    def _linger(self, conn: TConn) -> None:
        """Close a connection when its client has closed it, or after LINGER_SECONDS."""
        if conn.sock.fileno() < 0:
            self.nr_conns -= 1
            return
        conn.sock.setblocking(False)
        arrival = Arrival(conn, IncomingRequest(b""), deadline=time.monotonic() + LINGER_SECONDS)
        self._arrivals[conn] = arrival
        self._ignore_rest(arrival)
        self.poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._receive(arrival))
        self._receive(arrival)

    def _ignore_rest(self, arrival: Arrival) -> None:
        arrival.is_answered = True
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
