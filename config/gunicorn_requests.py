"""Receive a request piece by piece, and find out when gunicorn can read the request without waiting."""

import re
from http import HTTPStatus

MAX_BODY_BYTES = 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024
"""Limit for the request line and all headers together. `config.gunicorn` limits each header."""

MAX_DIGITS = 10
"""Maximum number of digits in a length. Python refuses to convert thousands of digits."""

HEAD_END = b"\r\n\r\n"
HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
BODY_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]+")
HEALTH = re.compile(rb"(?:GET|HEAD) /healthz[? ]")


class RequestTooLarge(Exception):
    """The head or the body is larger than its limit; the argument is the status to answer."""


class IncomingRequest:
    """The part of one request that has arrived."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.expects_continue = False
        self._length: int | None = None
        self._body_start = self._chunk_start = self._trailers_start = 0
        # The next search starts here. Clients may send single bytes, so do not search old bytes again.
        self._searched = 0

    @property
    def is_for_health(self) -> bool:
        """Whether the request asks for `/healthz`."""
        return HEALTH.match(self.data) is not None

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
        """Return the index of the first separator at or after `start`, or -1."""
        found = self.data.find(separator, max(start, self._searched))
        if found < 0:
            self._searched = max(0, len(self.data) - len(separator) + 1)
        return found

    def _check_chunked_size(self, end: int) -> None:
        # This limit includes the lines between the chunks. `chunked_bodies` limits the body alone.
        if end - self._body_start > MAX_BODY_BYTES + MAX_HEAD_BYTES:
            raise RequestTooLarge(BODY_TOO_LARGE)
