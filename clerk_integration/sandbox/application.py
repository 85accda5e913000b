"""From request to reply: faults, latency, secret key, API version and rate limits, then the route."""

import hmac
import re
import secrets

from clerk_integration.sandbox.control import CONTROL
from clerk_integration.sandbox.errors import ApiError, code_for_status
from clerk_integration.sandbox.faults import Fault
from clerk_integration.sandbox.limits import too_many_requests
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import VERSION_PARAMETER, Reply, Request
from clerk_integration.sandbox.routes import API
from clerk_integration.sandbox.shapes import error_json

CONTROL_PREFIX = "sandbox"

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def answer(clerk: LocalClerk, request: Request) -> Reply | None:
    """Answer one request; None means that the connection is to be closed without an answer."""
    if request.segments[:1] == (CONTROL_PREFIX,):
        return _answer_control(clerk, request)
    return _answer_api(clerk, request)


def error_reply(error: ApiError) -> Reply:
    """The reply that carries an error."""
    return Reply.json(error_json(error, secrets.token_hex(16)), error.status, error.headers)


def _answer_control(clerk: LocalClerk, request: Request) -> Reply:
    """Control paths, and Clerk's own under /sandbox/v1 as if used by hand in Clerk's dashboard.

    Neither needs the key, is logged, counted, delayed or made to fail.
    """
    try:
        if request.segments[1:2] == ("v1",):
            return API.dispatch(clerk, request, request.segments[1:])
        return CONTROL.dispatch(clerk, request, request.segments)
    except ApiError as error:
        return error_reply(error)


def _answer_api(clerk: LocalClerk, request: Request) -> Reply | None:
    entry = clerk.log.open(request)
    fault = clerk.faults.take(request.method, request.path)
    if not clerk.pause(clerk.latency_ms / 1000):
        return None
    reply = _faulty_reply(fault) or _serve(clerk, request)
    if fault is not None and (fault.drop_after_commit or not clerk.pause(fault.timeout_seconds or 0)):
        return None
    entry.status = reply.status
    return reply


def _serve(clerk: LocalClerk, request: Request) -> Reply:
    try:
        route, variables = API.find(request.method, request.segments)
    except ApiError as error:
        return _guarded(clerk, request, error)
    try:
        if not route.public:
            _require_secret_key(clerk, request)
        _require_valid_version(request)
        if not route.unlimited:
            clerk.limits.admit(changed=tuple(variables[name] for name in route.limited_per))
        return route.handler(clerk, request, **variables)
    except ApiError as error:
        return error_reply(error)


def _guarded(clerk: LocalClerk, request: Request, unknown_route: ApiError) -> Reply:
    """Tell who has the key that a route is unknown; everybody else learns about the key only."""
    try:
        _require_secret_key(clerk, request)
    except ApiError as error:
        return error_reply(error)
    return error_reply(unknown_route)


def _require_secret_key(clerk: LocalClerk, request: Request) -> None:
    header = request.headers.get("authorization")
    if header is None:
        raise ApiError("authentication_invalid")
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise ApiError("authorization_header_format_invalid")
    if not hmac.compare_digest(key.strip().encode(), clerk.secret_key.encode()):
        raise ApiError("clerk_key_invalid")


def _require_valid_version(request: Request) -> None:
    """Accept a date in the header or in the query, not in both."""
    versions = request.query.get(VERSION_PARAMETER, [])[:1]
    header = request.headers.get("clerk-api-version")
    if header is not None:
        versions = [*versions, header]
    if len(versions) > 1 or not all(_VERSION.fullmatch(version) for version in versions):
        raise ApiError("api_version_invalid")


def _faulty_reply(fault: Fault | None) -> Reply | None:
    """The answer that stands in for Clerk's, when the fault asks for one."""
    if fault is None:
        return None
    if fault.rate_limit is not None:
        return error_reply(too_many_requests(fault.rate_limit))
    if fault.body is not None:
        return Reply(fault.status or 200, fault.body.encode("utf-8", "replace"))
    if fault.status is not None:
        return _status_reply(fault.status)
    return None


def _status_reply(status: int) -> Reply:
    code = code_for_status(status)
    if code is None:
        return Reply(status, b"")
    return error_reply(ApiError(code))
