"""Answer `/metrics`: in the web server for the whole deployment, and in a worker for the worker alone.

If METRICS_TOKEN is set, a request must send it as a bearer token. If not, the numbers are open to everybody
who reaches the path; they hold no names, ids or secrets.
"""

import os
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from clerk_integration.conf import setting
from tenants.monitoring import metrics
from tenants.monitoring.deployment_metrics import DeploymentMetrics
from tenants.monitoring.processes import DIRECTORY, AllProcesses

PATH = "/metrics"
IDLE_SECONDS = 10
"""How long a connection to a worker may send nothing."""

_deployment = CollectorRegistry(auto_describe=False)
_deployment.register(DeploymentMetrics())
_processes = CollectorRegistry(auto_describe=False)
_processes.register(AllProcesses())


def metrics_view(request: HttpRequest) -> HttpResponse:
    """Answer with the sums over the processes of this web server, and the numbers of the deployment."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
    if not _is_allowed(request.headers.get("authorization", "")):
        return HttpResponse(status=HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
    text = generate_latest(_processes if DIRECTORY in os.environ else REGISTRY) + generate_latest(_deployment)
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def serve_worker_metrics(address: str, port: int) -> int:
    """Count in this process, and answer `/metrics` in a thread; return the port. Raise OSError."""
    metrics.connect()
    server = make_server(address, port, _answer_worker, server_class=_Server, handler_class=_Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


def _is_allowed(authorization: str) -> bool:
    token = setting("METRICS_TOKEN")
    scheme, _, sent = authorization.partition(" ")
    return not token or (scheme.lower() == "bearer" and constant_time_compare(sent.strip(), token))


def _answer_worker(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, headers, body = HTTPStatus.OK, [("Content-Type", CONTENT_TYPE_LATEST)], b""
    if environ["PATH_INFO"] != PATH:
        status = HTTPStatus.NOT_FOUND
    elif not _is_allowed(environ.get("HTTP_AUTHORIZATION", "")):
        status, headers = HTTPStatus.UNAUTHORIZED, [("WWW-Authenticate", "Bearer")]
    else:
        body = generate_latest(REGISTRY)
    start_response(f"{status.value} {status.phrase}", [*headers, ("Content-Length", str(len(body)))])
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Log no line for each scrape."""
