"""A proxy before the local Clerk that fails in the ways in which a network or Clerk itself fails."""

import http.client
import socket
import struct
import threading
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "hang", "rate_limit", "reset", "refuse"]

RATE_LIMITED_BODY = b'{"errors": [{"code": "too_many_requests", "message": "Slow down."}]}'
RATE_LIMITED = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 2\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(RATE_LIMITED_BODY), RATE_LIMITED_BODY)
)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
KEPT_HEADERS = {"content-type", "content-encoding", "date"}


class ClerkProxy:
    """Listens on 127.0.0.1 and passes requests on to `target` (host and port), or fails as `mode` says."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._mode: Mode = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._accept_in_background()

    @property
    def mode(self) -> Mode:
        """How requests are answered from now on; `refuse` closes the listening socket."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        was, self._mode = self._mode, mode
        if mode == "refuse":
            self.close()
        elif was == "refuse":
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
            self._accept_in_background()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept_in_background(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, http.client.HTTPException):
            while head := _read_head(connection):
                match self._mode:
                    case "pass":
                        self._pass(connection, head)
                    case "hang":
                        while connection.recv(4096):
                            pass
                    case "rate_limit":
                        connection.sendall(RATE_LIMITED)
                    case _:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                        return

    def _pass(self, connection: socket.socket, head: str) -> None:
        """Answer a GET as the local Clerk does."""
        request, *lines = head.split("\r\n")
        method, path, _ = request.split(" ")
        headers = dict(line.split(": ", 1) for line in lines if line)
        clerk = http.client.HTTPConnection(*self._target, timeout=30)
        try:
            clerk.request(method, path, headers=headers)
            response = clerk.getresponse()
            body = response.read()
        finally:
            clerk.close()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() in KEPT_HEADERS]
        answer = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{n}: {v}" for n, v in kept)]
        answer += [f"Content-Length: {len(body)}", "", ""]
        connection.sendall("\r\n".join(answer).encode() + body)


def _read_head(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return ""
        data += chunk
    return data.partition(b"\r\n\r\n")[0].decode("latin-1")
