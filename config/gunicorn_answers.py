"""Keep answers to slow clients in memory, so that no thread waits for a client."""

import socket
import threading
from contextlib import suppress
from typing import IO, Any

MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""Limit for all answers of one worker together. Above the limit, a slow client gets an incomplete answer."""


class UnsentBytes:
    """Counts the bytes of all answers that are waiting to be sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, count: int) -> None:
        """Add `count` bytes, or subtract sent bytes; raise BrokenPipeError above MAX_UNSENT_BYTES."""
        with self._lock:
            if count > 0 and self._count + count > MAX_UNSENT_BYTES:
                raise BrokenPipeError("too many bytes wait for clients that read slowly")
            self._count += count


class AnswerSocket:
    """The socket of a connection while a thread answers. Keeps bytes that the client does not read yet."""

    def __init__(self, sock: socket.socket, unsent_bytes: UnsentBytes) -> None:
        self.unsent = bytearray()
        self._sock = sock
        self._unsent_bytes = unsent_bytes

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the real socket."""
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Send as much as the connection takes now, and keep the rest; raise OSError."""
        sent = 0
        if not self.unsent:
            with suppress(BlockingIOError):
                sent = self._sock.send(data, socket.MSG_DONTWAIT)
        try:
            self._unsent_bytes.add(len(data) - sent)
        except BrokenPipeError:
            self.drop()
            raise
        self.unsent += data[sent:]

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> None:
        """Send a part of a file."""
        file.seek(offset)
        self.sendall(file.read(-1 if count is None else count))

    def flush(self) -> bool:
        """Send as much as the connection takes now; return whether nothing is left. Raise OSError."""
        with suppress(BlockingIOError):
            sent = self._sock.send(self.unsent, socket.MSG_DONTWAIT)
            del self.unsent[:sent]
            self._unsent_bytes.add(-sent)
        return not self.unsent

    def drop(self) -> None:
        """Discard the bytes that were not sent."""
        self._unsent_bytes.add(-len(self.unsent))
        self.unsent.clear()
