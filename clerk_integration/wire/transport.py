"""The HTTP transport below the SDK, with a total deadline and a limit on the size of bodies.

The transport reads every reply to its end and records it for `client`. The SDK never receives the reply,
because the SDK's models drop fields and refuse whole pages. Import this module lazily; httpx takes a tenth of
a second.
"""

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from itertools import zip_longest
from ssl import SSLContext

import httpcore
import httpx

from clerk_integration.exceptions import ClerkMisconfigured, ClerkProtocolError, ClerkUnavailable
from clerk_integration.signals import clerk_called
from clerk_integration.wire.deadlines import remaining_seconds
from clerk_integration.wire.replies import Reply

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Largest body that is read. A page of 500 organizations has about half a megabyte, and 9 MB if each has the
most metadata that Clerk stores (8 KB public, 8 KB private)."""

DECOMPRESSED_BYTES = 4096
"""Compressed bytes that are decompressed at once, to at most about 4 MB."""

CONNECT_SECONDS = 1.0
"""Seconds to wait for one address of Clerk if another address is left to try."""

MAX_CONNECTIONS = 100
KEEPALIVE_SECONDS = 5.0
"""Seconds for which an idle connection is kept, because servers close idle connections, too."""

_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
_WIRE_ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError)

_ID = re.compile(r"/(?:org|user)_[^/]*")
"""The ids in the paths of Clerk's API."""

_replies: ContextVar[list[Reply]] = ContextVar("clerk_replies")


class ReplyRecorded(Exception):
    """The reply is recorded, and the SDK does not parse it: parsing would take longer than the request."""


@contextmanager
def recorded_replies() -> Iterator[list[Reply]]:
    """Collect the replies that this thread receives during the block; each reply raises ReplyRecorded."""
    replies: list[Reply] = []
    token = _replies.set(replies)
    try:
        yield replies
    finally:
        _replies.reset(token)


@contextmanager
def _reported(request: httpx.Request) -> Iterator[dict[str, str]]:
    """Send `clerk_called` after the block, with the `outcome` that the block stores, or the error's."""
    report = {"outcome": "unanswered"}
    started = time.perf_counter()
    try:
        yield report
    except ClerkProtocolError:
        report["outcome"] = "unreadable"
        raise
    finally:
        path = _ID.sub("/{id}", request.url.path.rpartition("/v1")[2])
        clerk_called.send_robust(
            sender=None,
            operation=f"{request.method} {path}",
            seconds=time.perf_counter() - started,
            **report,
        )


class DeadlineTransport(httpx.BaseTransport):
    """Pooled HTTP/1.1 in which no request exceeds the deadline of `deadlines.py`.

    Raises ClerkUnavailable if the reply does not arrive completely and in time (`outcome_unknown` if the
    request was a write and was sent). Raises ClerkProtocolError for a body that is too large or cannot be
    decompressed. Raises ReplyRecorded after every complete reply. Ignores proxies and CA files that the
    environment names, so that the secret key is sent only to CLERK_API_URL.
    """

    def __init__(self, ssl_context: SSLContext | None) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=DeadlineBackend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its reply to the end."""
        with _reported(request) as report:
            reply = self._send(request)
            report["outcome"] = str(reply.status)
        _replies.get().append(reply)
        raise ReplyRecorded

    def close(self) -> None:
        """Close every connection of the pool."""
        self._pool.close()

    def _send(self, request: httpx.Request) -> Reply:
        try:
            return self._exchange(request)
        except _WIRE_ERRORS as exc:
            raise _unavailable(exc, request) from exc
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError) as exc:
            # Not chained: the library's message may quote the Authorization header.
            raise ClerkMisconfigured(
                f"CLERK_API_URL and CLERK_SECRET_KEY do not make a valid request ({type(exc).__name__})."
                " Nothing was sent."
            ) from None

    def _exchange(self, request: httpx.Request) -> Reply:
        with closing(self._pool.handle_request(_core_request(request))) as core:
            response = httpx.Response(core.status, headers=core.headers, stream=_Body(core.iter_stream()))
            return Reply(core.status, tuple(response.headers.multi_items()), _read(response))


class DeadlineBackend(httpcore.SyncBackend):
    """Open connections on which no wait exceeds the deadline."""

    def __init__(self) -> None:
        self._reachable: dict[str, str] = {}

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Try the addresses of `host` in turn, beginning with the last one that was reached.

        Each address except the last gets at most CONNECT_SECONDS, so that an address that never answers
        (broken IPv6) does not use up the deadline.
        """
        addresses = sorted(_resolve(host, port), key=lambda one: one != self._reachable.get(host))
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for number, address in enumerate(addresses, start=1):
            seconds = _time_left(httpcore.ConnectTimeout)
            if number < len(addresses):
                seconds = min(CONNECT_SECONDS, seconds or CONNECT_SECONDS)
            try:
                stream = super().connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
            else:
                self._reachable[host] = address
                return DeadlineStream(stream)
        raise failure


class DeadlineStream(httpcore.NetworkStream):
    """A stream whose timeouts come from the deadline, not from the caller."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the bytes that have arrived; wait for the first byte until the deadline."""
        return self._stream.read(max_bytes, _time_left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of `buffer`; request bodies are far smaller than a socket's send buffer."""
        self._stream.write(buffer, _time_left(httpcore.WriteTimeout))

    def close(self) -> None:
        """Close the socket."""
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Perform the TLS handshake; Python's ssl module applies the timeout to the whole handshake."""
        left = _time_left(httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> object:
        """Return connection details for the pool, such as whether the peer has closed an idle connection."""
        return self._stream.get_extra_info(info)


class _Body(httpx.SyncByteStream):
    """The compressed body of a reply, for httpx to decompress."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        """Yield small parts, because a body of a few kilobytes may decompress to gigabytes."""
        for chunk in self._chunks:
            for start in range(0, len(chunk), DECOMPRESSED_BYTES):
                yield chunk[start : start + DECOMPRESSED_BYTES]


def _core_request(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions={"timeout": {"pool": _time_left(httpcore.PoolTimeout)}},
    )


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise ClerkProtocolError(
                    f"Clerk's reply is larger than {MAX_BODY_BYTES // 1024**2} MiB, so it was not read to the"
                    " end. Nothing of it was used. Check that CLERK_API_URL names Clerk."
                )
    except httpx.DecodingError as exc:
        raise ClerkProtocolError("Clerk's reply could not be decompressed. Nothing of it was used.") from exc
    return bytes(body)


def _unavailable(exc: Exception, request: httpx.Request) -> ClerkUnavailable:
    outcome_unknown = request.method != "GET" and not isinstance(exc, _NOT_SENT)
    what = "did not answer in time" if isinstance(exc, httpcore.TimeoutException) else "could not be reached"
    detail = f": {exc}" if str(exc) else ""
    outcome = "Clerk may have carried out the request." if outcome_unknown else "Try again later."
    message = f"Clerk {what} ({type(exc).__name__}{detail}). {outcome}"
    return ClerkUnavailable(message, outcome_unknown=outcome_unknown)


def _time_left(timeout: type[httpcore.TimeoutException]) -> float | None:
    left = remaining_seconds()
    if left <= 0:
        raise timeout("the deadline has passed")
    return None if left == float("inf") else left


def _resolve(host: str, port: int) -> list[str]:
    """Look up the addresses of `host` in a thread, because the system's resolver takes no timeout."""
    found: list[str] = []
    failures: list[OSError] = []

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            failures.append(exc)
        else:
            found.extend(dict.fromkeys(str(info[4][0]) for info in infos))

    thread = threading.Thread(target=look_up, name="clerk-resolver", daemon=True)
    thread.start()
    thread.join(_time_left(httpcore.ConnectTimeout))
    if thread.is_alive():
        raise httpcore.ConnectTimeout(f"the name {host} could not be resolved in time")
    if failures:
        raise httpcore.ConnectError(str(failures[0])) from failures[0]
    return list(_alternating(found))


def _alternating(addresses: Sequence[str]) -> Iterator[str]:
    """Yield IPv6 and IPv4 addresses in turn, in the resolver's order (RFC 8305)."""
    first = [one for one in addresses if (":" in one) == (":" in addresses[0])]
    second = [one for one in addresses if one not in first]
    for pair in zip_longest(first, second):
        yield from filter(None, pair)
