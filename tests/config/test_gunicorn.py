"""The web server, spoken to over plain sockets."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.contrib.staticfiles.finders import find

from config.gunicorn_answers import MAX_UNSENT_BYTES, AnswerSocket, UnsentBytes
from config.gunicorn_requests import IncomingRequest
from tests.tokens import public_pem, session_token
from tests.web_server import web_server
from tests.webhooks import WebhookSender, new_instance_id, new_signing_secret

SECRET = new_signing_secret()
MIB = 1024 * 1024
PATH = "/api/v1/webhooks/clerk"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/v1/webhooks/clerk HTTP/1.1\r\nHost: localhost\r\n"
BUNDLE = "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
LARGE_FILE = f"GET /static/{BUNDLE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
REFUSED_DATABASE = "postgres://nobody@127.0.0.1:9/nothing"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server with one worker of two threads. Its database cannot be reached."""
    options = ("--workers", "1", "--threads", "2", "--worker-connections", "100")
    settings = {
        "DATABASE_URL": REFUSED_DATABASE,
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        "CLERK_JWT_KEY": public_pem(),
    }
    with web_server(*options, output=subprocess.DEVNULL, **settings) as port:
        yield port


class HttpConnection:
    """A connection that sends the given bytes and reads whole answers."""

    def __init__(self, port: int, timeout: float = 15) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._received = b""

    def __enter__(self) -> "HttpConnection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """Return the status and body of the next answer."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, rest = self._received.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers.get(b"content-length", 0))
        while len(rest) < length:
            self._receive()
            rest = self._received.partition(b"\r\n\r\n")[2]
        self._received = rest[length:]
        return int(head.split()[1]), rest[:length]

    def is_closed(self) -> bool:
        return self._socket.recv(1) == b""

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        assert data, f"the connection was closed after {self._received!r}"
        self._received += data


@pytest.fixture
def http(port: int) -> Iterator[HttpConnection]:
    with HttpConnection(port) as connection:
        yield connection


def chunked(body: bytes, size: int) -> bytes:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def webhook(body: bytes, *, framing: str) -> bytes:
    """Return the head of a signed webhook."""
    signed = WebhookSender(secret=SECRET, instance_id=new_instance_id()).headers(body)
    headers = {"Host": "localhost", "Content-Type": "application/json", **signed}
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), framing]
    return "\r\n".join([*lines, "", ""]).encode()


def event_of_size(size: int) -> bytes:
    event = WebhookSender(secret=SECRET, instance_id=new_instance_id()).event(filler="")
    return json.dumps({**event, "filler": "x" * (size - len(json.dumps(event)))}).encode()


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        POST + b"X-Long: ",
        POST + b"Content-Length: 1000\r\n\r\nx",
        POST + b"Transfer-Encoding: chunked\r\n\r\n3E8\r\nx",
        HEALTHZ + POST + b"Content-Length: 9\r\n\r\n",
    ],
)
def test_server_with_many_incomplete_requests_answers_others_at_once(port: int, beginning: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(HttpConnection(port)).send(beginning)
        started = time.monotonic()
        for _ in range(5):
            with HttpConnection(port) as http:
                http.send(HEALTHZ)
                assert http.read()[0] == 200
        assert time.monotonic() - started < 2.5


@pytest.mark.parametrize(
    ("request_", "status"), [(HEALTHZ[:-2] + b"Connection: close\r\n\r\n", 200), (b"nonsense\r\n\r\n", 400)]
)
def test_server_clients_that_do_not_close_their_connections_block_no_others(
    port: int, request_: bytes, status: int
) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            lingering = stack.enter_context(HttpConnection(port))
            lingering.send(request_)
            assert lingering.read()[0] == status
        started = time.monotonic()
        with HttpConnection(port) as http:
            http.send(HEALTHZ)
            assert http.read()[0] == 200
        assert time.monotonic() - started < 1
        assert lingering.is_closed()


def test_server_clients_that_do_not_read_their_answers_block_no_others(port: int) -> None:
    path = find(BUNDLE)
    assert path
    bundle = Path(path).read_bytes()
    with ExitStack() as stack:
        for _ in range(8):
            unread = stack.enter_context(HttpConnection(port))
            unread.send(LARGE_FILE * 6)
        for _ in range(3):
            with HttpConnection(port) as http:
                http.send(HEALTHZ)
                assert http.read()[0] == 200
        for _ in range(6):
            status, body = unread.read()
            assert (status, body == bundle) == (200, True)


def test_answers_larger_than_the_limit_together_are_cut_off_and_make_room() -> None:
    unsent_bytes = UnsentBytes()
    server, client = socket.socketpair()
    with server, client:
        answer = AnswerSocket(server, unsent_bytes)
        answer.sendall(b"x" * MAX_UNSENT_BYTES)
        assert 0 < len(answer.unsent) <= MAX_UNSENT_BYTES

        with pytest.raises(BrokenPipeError):
            answer.sendall(b"x" * MAX_UNSENT_BYTES)

        assert not answer.unsent
        unsent_bytes.add(MAX_UNSENT_BYTES)


def test_server_full_of_incomplete_bodies_refuses_the_largest(port: int) -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % MIB
    with ExitStack() as stack:
        for free in [0] * 31 + [20]:
            large = stack.enter_context(HttpConnection(port))
            large.send(head + b"x" * (MIB - len(head) - free))
        # The server reads a part of each connection before it answers.
        for _ in range(40):
            with HttpConnection(port) as http:
                http.send(HEALTHZ)
                assert http.read()[0] == 200
        small = stack.enter_context(HttpConnection(port))
        small.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")

        assert small.read()[0] == 100


def test_server_whose_threads_are_busy_refuses_what_would_wait_too_long_and_answers_healthz() -> None:
    options = ("--workers", "1", "--threads", "1", "--worker-connections", "20")
    with ExitStack() as stack:
        silent_database = socket.create_server(("127.0.0.1", 0))
        url = f"postgres://me@127.0.0.1:{silent_database.getsockname()[1]}/none"
        settings = {"DATABASE_URL": url, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
        port = stack.enter_context(web_server(*options, output=subprocess.DEVNULL, **settings))
        stack.callback(silent_database.close)  # The requests that wait fail, and the server can stop.
        body = event_of_size(400)
        requests = [stack.enter_context(HttpConnection(port, timeout=5)) for _ in range(11)]
        for request in requests:
            request.send(webhook(body, framing=f"Content-Length: {len(body)}") + body)

        status, answer = requests[-1].read()
        assert (status, json.loads(answer)["errors"][0]["code"]) == (503, "busy")
        with HttpConnection(port, timeout=5) as http:
            http.send(HEALTHZ)
            assert http.read()[0] == 200


@pytest.mark.parametrize("beginning", [b"", POST + b"X-Long: "])
def test_server_with_as_many_connections_as_it_may_hold_accepts_others(port: int, beginning: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(HttpConnection(port)).send(beginning)
        for _ in range(120):
            with HttpConnection(port, timeout=5) as http:  # a request may take 10 s to arrive
                http.send(HEALTHZ)
                assert http.read()[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("beginning", [POST + b"X-Long: ", POST + b"Content-Length: 9\r\n\r\n"])
def test_server_request_that_takes_too_long_is_answered_408(http: HttpConnection, beginning: bytes) -> None:
    http.send(beginning)
    started = time.monotonic()

    status, body = http.read()

    assert (status, json.loads(body)["errors"][0]["code"]) == (408, "request_timeout")
    assert 9 < time.monotonic() - started < 13
    assert http.is_closed()


@pytest.mark.slow
def test_server_stops_without_waiting_for_connections_that_send_nothing() -> None:
    options = ("--workers", "1", "--threads", "1")
    with ExitStack() as stack:
        with web_server(*options, output=subprocess.DEVNULL, DATABASE_URL=REFUSED_DATABASE) as port:
            stack.enter_context(HttpConnection(port))
            with HttpConnection(port) as http:  # so that the server has accepted both
                http.send(HEALTHZ)
                http.read()
            started = time.monotonic()
        assert time.monotonic() - started < 7


def test_server_request_in_single_bytes_is_answered(http: HttpConnection) -> None:
    for byte in HEALTHZ:
        http.send(bytes([byte]))

    assert http.read()[0] == 200


def test_server_pipelined_requests_are_all_answered_in_order(http: HttpConnection) -> None:
    missing = HEALTHZ.replace(b"/healthz", b"/api/v1/nothing")
    http.send(HEALTHZ + missing + HEALTHZ)

    assert [http.read()[0] for _ in range(3)] == [200, 404, 200]


@pytest.mark.parametrize("size", [100, 8192, MIB])
@pytest.mark.parametrize("chunk", [0, 7, 8192])
def test_server_body_whole_or_chunked_reaches_the_view(http: HttpConnection, size: int, chunk: int) -> None:
    body = event_of_size(max(size, 400))
    if chunk == 7 and size == MIB:
        pytest.skip("the lines between so many chunks exceed the limit")
    framing = "Transfer-Encoding: chunked" if chunk else f"Content-Length: {len(body)}"

    http.send(webhook(body, framing=framing) + (chunked(body, chunk) if chunk else body))

    status, answer = http.read()
    # The signature is right, so that the whole body was read; the database cannot be reached.
    assert (status, json.loads(answer)["errors"][0]["code"]) == (503, "not_stored")


@pytest.mark.parametrize("chunk", [0, 1, 8192])
def test_server_chunked_body_of_the_api_is_read(http: HttpConnection, chunk: int) -> None:
    body = b'{"name": 5}'
    framing = "Transfer-Encoding: chunked" if chunk else f"Content-Length: {len(body)}"
    head = (
        "POST /api/v1/tenants/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {session_token()}\r\n{framing}\r\n\r\n"
    )

    http.send(head.encode() + (chunked(body, chunk) if chunk else body))

    status, answer = http.read()
    # Without the body, the code is `required`.
    assert (status, json.loads(answer)["errors"][0]["code"]) == (400, "invalid")


@pytest.mark.parametrize("size", [MIB + 1, 3 * MIB])
@pytest.mark.parametrize("chunk", [0, 8192])
def test_server_body_over_the_limit_is_answered_413(http: HttpConnection, size: int, chunk: int) -> None:
    body = event_of_size(size)
    framing = "Transfer-Encoding: chunked" if chunk else f"Content-Length: {len(body)}"

    http.send(webhook(body, framing=framing) + (chunked(body, chunk) if chunk else body))

    status, answer = http.read()
    assert (status, json.loads(answer)["errors"][0]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("length", [str(10**12), "9" * 5000])
def test_server_length_larger_than_the_limit_is_answered_before_the_body(
    http: HttpConnection, length: str
) -> None:
    http.send(webhook(b"", framing=f"Content-Length: {length}"))

    assert http.read()[0] == 413


def test_server_client_that_waits_for_permission_gets_it(http: HttpConnection) -> None:
    body = event_of_size(400)
    http.send(webhook(body, framing=f"Content-Length: {len(body)}\r\nExpect: 100-continue"))
    assert http.read()[0] == 100

    http.send(body)

    answers = [http.read()[0]]
    while answers[-1] == 100:
        answers.append(http.read()[0])
    assert answers[-1] == 503


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: \xb2\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\n12345\r\n0\r\n\r\n",
    ],
)
def test_server_malformed_request_is_answered_400(http: HttpConnection, request_: bytes) -> None:
    http.send(request_)

    assert http.read()[0] == 400


@pytest.mark.parametrize(("size", "status"), [(16_000, 200), (17_000, 431)])
def test_server_header_of_16_kib_is_read_and_a_longer_one_refused(
    http: HttpConnection, size: int, status: int
) -> None:
    http.send(HEALTHZ[:-2] + b"X-Long: " + b"x" * size + b"\r\n\r\n")

    assert http.read()[0] == status


def test_server_endless_headers_are_refused(http: HttpConnection) -> None:
    http.send(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 100_000)

    assert http.read()[0] == 431


def test_server_endless_trailers_are_refused(http: HttpConnection) -> None:
    http.send(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"x" * 2 * MIB)

    assert http.read()[0] == 413


@pytest.mark.parametrize(
    "request_",
    [
        HEALTHZ,
        POST + b"Content-Length: 5\r\n\r\nab\r\n\r",
        POST + b"Content-Length: 00000000000005\r\n\r\nabcde",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n1;x=y\r\n0\r\n0\r\nX: y\r\nY: z\r\n\r\n",
    ],
)
def test_incoming_request_in_single_bytes_is_complete_at_its_last_byte(request_: bytes) -> None:
    incoming = IncomingRequest(b"")
    completions = []
    for byte in request_:
        incoming.data.append(byte)
        completions.append(incoming.is_complete())

    assert completions == [False] * (len(request_) - 1) + [True]
