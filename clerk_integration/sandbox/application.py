"""Answer a request: apply faults, latency, secret key, API version and rate limits, then call the route."""

import hmac
import re
from http import HTTPStatus
from urllib.parse import urlsplit

from clerk_integration.sandbox import control
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import Fault, error_reply
from clerk_integration.sandbox.local_clerk import LocalClerk, LogEntry
from clerk_integration.sandbox.messages import VERSION_PARAMETER, NoReply, Reply, Request
from clerk_integration.sandbox.routes import api_keys, instance, memberships, organizations, users
from clerk_integration.sandbox.routing import API, CONTROL

REGISTERED = (api_keys, control, instance, memberships, organizations, users)
"""The modules that register their handlers when they are imported."""

CONTROL_PATH = "/sandbox"
PUBLIC_PATHS = "/.well-known/"
HOST = "127.0.0.1"
LOCAL_HOSTS = (HOST, "localhost", "::1")

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def answer(clerk: LocalClerk, request: Request) -> Reply:
    """Return the reply; raise NoReply if the server must close the connection without a reply."""
    if request.path == CONTROL_PATH or request.path.startswith(f"{CONTROL_PATH}/"):
        return _answer_control(clerk, request)
    return _answer_api(clerk, request)


def _answer_control(clerk: LocalClerk, request: Request) -> Reply:
    """Answer the control API, and Clerk's API under /sandbox/v1.

    These requests act like a change in Clerk's dashboard. They need no secret key and are not logged. Rate
    limits, latency and faults do not apply to them. A web page of another site may not send them: browsers
    name the site in `Host` if its name points to this machine (DNS rebinding), otherwise in `Origin`.
    """
    if not all(map(_is_local, (f"//{request.headers.get('host', HOST)}", request.headers.get("origin", "")))):
        return Reply(
            HTTPStatus.FORBIDDEN, b"The control API answers programs and pages of this machine only.\n"
        )
    try:
        if request.path.startswith(f"{CONTROL_PATH}/v1/"):
            return _by_hand(clerk, request, request.path.removeprefix(CONTROL_PATH))
        with clerk.lock:
            return CONTROL.dispatch(clerk, request, request.path)
    except ApiError as error:
        return error_reply(error)


def _is_local(url: str) -> bool:
    """Return whether the URL is empty or names this machine."""
    try:
        return not url or urlsplit(url).hostname in LOCAL_HOSTS
    except ValueError:
        return False


def _by_hand(clerk: LocalClerk, request: Request, path: str) -> Reply:
    with clerk.lock:
        return API.dispatch(clerk, request, path)


def _answer_api(clerk: LocalClerk, request: Request) -> Reply:
    entry = LogEntry(request)
    with clerk.lock:
        clerk.log.append(entry)
        fault = clerk.take_fault(request)
    if not clerk.pause(clerk.latency_ms / 1000):
        raise NoReply
    reply = _serve(clerk, request) if fault is None else _serve_with(fault, clerk, request)
    entry.status = reply.status
    return reply


def _serve_with(fault: Fault, clerk: LocalClerk, request: Request) -> Reply:
    if fault.reset:
        raise NoReply(reset=True)
    reply = fault.patched(fault.replacement() or _serve(clerk, request))
    if fault.then is not None:
        _by_hand(clerk, fault.then.request(), fault.then.path)
    if fault.drop_after_commit or not clerk.pause(fault.timeout_seconds):
        raise NoReply
    return reply


def _serve(clerk: LocalClerk, request: Request) -> Reply:
    """Answer a request. Check the secret key first: a client without the key gets no other error."""
    try:
        with clerk.lock:
            if not request.path.startswith(PUBLIC_PATHS):
                _require_secret_key(clerk, request)
            route, variables = API.find(request.method, request.path)
            _require_valid_version(request)
            if not route.unlimited:
                clerk.limits.admit(changed=tuple(variables[name] for name in route.limited_per))
            return route.call(clerk, request, variables)
    except ApiError as error:
        return error_reply(error)


def _require_secret_key(clerk: LocalClerk, request: Request) -> None:
    header = request.headers.get("authorization")
    if header is None:
        raise ApiError("authentication_invalid")
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise ApiError("authorization_header_format_invalid")
    if not hmac.compare_digest(key.strip().encode(), clerk.instance.keys.secret_key.encode()):
        raise ApiError("clerk_key_invalid")


def _require_valid_version(request: Request) -> None:
    """Raise `api_version_invalid` unless the version is a date, in the header or the query, not both."""
    versions = request.query.get(VERSION_PARAMETER, [])[:1]
    header = request.headers.get("clerk-api-version")
    if header is not None:
        versions = [*versions, header]
    if len(versions) > 1 or not all(_VERSION.fullmatch(version) for version in versions):
        raise ApiError("api_version_invalid")
