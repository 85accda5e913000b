"""gunicorn's threaded worker, changed so that no thread waits for a client.

gunicorn's own worker reads requests and sends answers in its threads. A few anonymous clients that send one
byte a second, or do not read their answers, can occupy all threads and block all other requests.
In this worker, the event loop receives requests, and sends the rest of an answer to a slow client.

When `worker_connections` are open, gunicorn's worker accepts no others. This worker closes a connection that
is idle to make room for each new one, and answers 503 while half of that number wait for a thread. `/healthz`
has a thread of its own, so that it is answered while all others wait for a database that hangs.
"""

import json
import selectors
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from config.gunicorn_answers import AnswerSocket, UnsentBytes
from config.gunicorn_requests import IncomingRequest, RequestTooLarge

DEADLINE_SECONDS = 10.0
"""How long a request may take to arrive."""

ANSWER_SECONDS = 60.0
"""How long the client may take to read an answer."""

MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""Limit for all incomplete requests of one worker together."""

LINGER_SECONDS = 2.0
"""How long a connection stays open after its last answer, unless the client closes it."""

RECEIVE_BYTES = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

REFUSALS = {
    HTTPStatus.REQUEST_TIMEOUT: ("request_timeout", "The request took longer than 10 seconds to arrive."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("body_too_large", "The body is larger than 1 MiB."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("headers_too_large", "The headers are larger than 64 KiB."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("busy", "Too many requests are arriving. Try again later."),
}


@dataclass(eq=False)
class Arrival:
    """A connection whose request is arriving, or that is being closed after its last answer."""

    conn: TConn
    request: IncomingRequest
    deadline: float = field(default_factory=lambda: time.monotonic() + DEADLINE_SECONDS)
    is_answered: bool = False


@dataclass(eq=False)
class Departure:
    """A connection to which the event loop sends an answer that gunicorn's thread has finished."""

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
        self._in_threads: set[TConn] = set()
        self._health_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="healthz")

    def enqueue_req(self, conn: TConn) -> None:
        """Receive a request. gunicorn calls this for new connections and for further requests on them."""
        if self.cfg.is_ssl:
            super().enqueue_req(conn)
            return
        if conn.parser is None and self.nr_conns >= self.worker_connections:
            self._make_room()
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
        self._in_threads.discard(conn)
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
        conn, is_for_health = arrival.conn, arrival.request.is_for_health
        if len(self._in_threads) >= self.worker_connections // 2 and not is_for_health:
            self._refuse(arrival, HTTPStatus.SERVICE_UNAVAILABLE)
            return
        self._forget(arrival)
        conn.init()
        conn.parser.unreader.unread(bytes(arrival.request.data))
        conn.data_ready = True
        self._in_threads.add(conn)
        pool = self._health_pool if is_for_health else self.tpool
        handled = pool.submit(self.handle, conn)
        handled.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _make_room(self) -> None:
        """Close the oldest idle connection; if there is none, refuse the oldest incomplete request."""
        arrivals = self._arrivals.values()
        idle = next((one for one in arrivals if one.is_answered or not one.request.data), None)
        if idle is not None:
            self._close(idle)
        elif self.keepalived_conns:
            kept = self.keepalived_conns.popleft()
            self.poller.unregister(kept.sock)
            self.nr_conns -= 1
            kept.close()
        elif oldest := next(iter(arrivals), None):
            self._refuse(oldest, HTTPStatus.SERVICE_UNAVAILABLE)
            self._close(oldest)

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
