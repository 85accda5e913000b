"""The settings of the web server: `gunicorn -c python:config.gunicorn config.wsgi`.

Options on the command line, such as `--bind`, `--workers` and `--threads`, override these settings.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

# gunicorn makes its logger, which reads settings, before it imports config.wsgi.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

logger_class = "config.gunicorn_logs.Logger"
worker_class = "config.gunicorn_worker.BufferingWorker"
workers = 2
threads = 8

# Connections per worker. An idle or slow connection occupies no thread.
worker_connections = 500

# Seconds. gunicorn replaces a worker whose event loop hangs for `timeout`.
timeout = 30
# After SIGTERM, running requests may continue for this long; a request to Clerk takes CLERK_TIMEOUT_SECONDS.
graceful_timeout = 20
keepalive = 5

# Session tokens with many claims need long headers.
limit_request_line = 8190
limit_request_field_size = 16 * 1024
limit_request_fields = 100

# `gunicornc` needs a socket in the home directory, which a container with a read-only file system lacks.
control_socket_disable = True

# Restart workers regularly, so that a memory leak in a library does not grow without limit.
max_requests = 100_000
max_requests_jitter = 10_000


METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: where the workers leave their metrics, so that `/metrics` sums them."""

_made_directories: list[str] = []


def on_starting(server: Any) -> None:
    """Make the directory of the metrics unless the environment names one; empty it of earlier metrics."""
    if METRICS_DIRECTORY not in os.environ:
        os.environ[METRICS_DIRECTORY] = tempfile.mkdtemp(prefix="tenants-metrics-")
        _made_directories.append(os.environ[METRICS_DIRECTORY])
    for file in Path(os.environ[METRICS_DIRECTORY]).glob("*.db"):
        file.unlink()


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counts of a worker that ended, in one file for all such workers."""
    from tenants.monitoring.processes import fold  # noqa: PLC0415  (imported when the first worker ends)

    try:
        fold(worker.pid)
    except Exception as error:  # a full disk must not end the server
        server.log.warning("The counts of worker %s are lost: %s", worker.pid, error)


def on_exit(server: Any) -> None:
    """Delete the directory of the metrics if this server made it."""
    for directory in _made_directories:
        shutil.rmtree(directory, ignore_errors=True)


def post_worker_init(worker: Any) -> None:
    """Let at most half of the worker's threads wait for Clerk, unless CLERK_MAX_WAITING says otherwise.

    Start to watch for problems, because no worker of the queue can report that no worker is running.
    """
    from tenants.monitoring.alerts import start_watching  # noqa: PLC0415  (the apps are loaded by now)

    start_watching()
    if not settings.CLERK_MAX_WAITING:
        settings.CLERK_MAX_WAITING = max(1, worker.cfg.threads // 2)
