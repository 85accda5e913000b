"""gunicorn with the settings of `config.gunicorn`, for tests and chaos scripts."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0


@contextmanager
def web_server(*options: str, output: int | None = None, **env: str) -> Iterator[int]:
    """Serve on a free port for the block, and return the port; `env` overrides the environment."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]
        command += ["--bind", f"fd://{listener.fileno()}", "--no-control-socket", *options]
        environment = {**os.environ, "DEBUG": "true", **env}
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_alive(server, port)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_until_alive(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        assert server.poll() is None, f"gunicorn has ended with exit status {server.returncode}"
        assert time.monotonic() < deadline, f"gunicorn did not answer within {START_SECONDS:.0f} s"
        time.sleep(0.05)
