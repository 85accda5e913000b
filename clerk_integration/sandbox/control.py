"""The control API under /sandbox: what a test or a person does to the local Clerk from outside."""

from typing import Any, cast

from clerk_integration.sandbox import webhook_control
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import Fault
from clerk_integration.sandbox.limits import RateLimit
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.page import render_page
from clerk_integration.sandbox.parameters import Body
from clerk_integration.sandbox.records import RawPatch, Role
from clerk_integration.sandbox.routing import Route, Router
from clerk_integration.sandbox.seed import Seed
from clerk_integration.sandbox.tokens import (
    LIFETIME_SECONDS,
    SIGNATURES,
    VARIANTS,
    Signature,
    TokenRequest,
    Variant,
)

MAX_SECONDS = 3600
RATE_LIMITS: tuple[RateLimit, ...] = ("dev", "live", "none")


def show_page(clerk: LocalClerk, request: Request) -> Reply:
    """Show the instance to a person."""
    return Reply(200, render_page(clerk).encode(), "text/html; charset=utf-8")


def create_session_token(clerk: LocalClerk, request: Request) -> Reply:
    """Sign a session token for a user, with an active organization when one is named.

    `variant`, `signature`, `expiresIn` (seconds, may be negative), `claims` and `header` make tokens
    that Clerk would not issue for a session; a claim of null is left out.
    """
    body = request.body("userId", "organizationId", "variant", "signature", "expiresIn", "claims", "header")
    user_id, organization_id = body.required_text("userId"), body.text("organizationId")
    lifetime = body.integer("expiresIn", least=-MAX_SECONDS)
    token = TokenRequest(
        user=clerk.store.user(user_id),
        membership=clerk.store.membership(organization_id, user_id) if organization_id else None,
        variant=cast(Variant, body.choice("variant", VARIANTS) or "session"),
        signature=cast(Signature, body.choice("signature", SIGNATURES) or "valid"),
        expires_in=LIFETIME_SECONDS if lifetime is None else lifetime,
        pending=clerk.store.settings.membership_required and not organization_id,
        claims=body.mapping("claims") or {},
        header=body.mapping("header") or {},
    )
    return Reply.json({"jwt": clerk.tokens.sign(token)})


def create_user(clerk: LocalClerk, request: Request) -> Reply:
    """Create a user; answered in Clerk's own shape."""
    body = request.body(
        "id",
        "firstName",
        "lastName",
        "username",
        "emailAddress",
        "externalId",
        "banned",
        "createOrganizationsLimit",
    )
    user = clerk.store.create_user(
        body.text("id"),
        first_name=body.text("firstName"),
        last_name=body.text("lastName"),
        username=body.text("username"),
        email_address=body.text("emailAddress"),
        external_id=body.text("externalId"),
        banned=bool(body.boolean("banned")),
        create_organizations_limit=body.integer("createOrganizationsLimit"),
    )
    return Reply.text(clerk.serializer.user(user))


def create_fault(clerk: LocalClerk, request: Request) -> Reply:
    """Let a fault wait for requests; see Fault for the kinds."""
    body = request.body("match", "times", "status", "body", "rateLimit", "timeoutSeconds", "dropAfterCommit")
    times = body.integer("times", least=1)
    fault = Fault(
        match=body.required_text("match"),
        times=1 if times is None else times,
        status=body.integer("status", least=200),
        body=body.text("body"),
        rate_limit=body.integer("rateLimit"),
        timeout_seconds=body.number("timeoutSeconds"),
        drop_after_commit=bool(body.boolean("dropAfterCommit")),
    )
    _require_sane(fault)
    clerk.faults.add(fault)
    return Reply.json(fault.as_json())


def list_faults(clerk: LocalClerk, request: Request) -> Reply:
    """Show the faults that wait."""
    return Reply.json([fault.as_json() for fault in clerk.faults.waiting()])


def clear_faults(clerk: LocalClerk, request: Request) -> Reply:
    """Let no fault wait."""
    clerk.faults.clear()
    return Reply.json([])


def list_requests(clerk: LocalClerk, request: Request) -> Reply:
    """Show what was called, oldest first."""
    return Reply.json([entry.as_json() for entry in clerk.log.entries()])


def clear_requests(clerk: LocalClerk, request: Request) -> Reply:
    """Forget what was called."""
    clerk.log.clear()
    return Reply.json([])


def change_settings(clerk: LocalClerk, request: Request) -> Reply:
    """Change how the instance behaves; what is left out stays.

    Clerk's own organization settings are changed through /sandbox/v1/instance/organization_settings.
    """
    body = request.body(
        "slugs",
        "nullSlugs",
        "membershipRequired",
        "organizationQuota",
        "organizationsPerUser",
        "creatorRole",
        "customRoles",
        "latencyMs",
        "rateLimit",
    )
    slugs = body.choice("slugs", ("enabled", "disabled"))
    roles = {**clerk.store.settings.roles, **_custom_roles(body)}
    wanted: dict[str, Any] = {
        "slug_disabled": None if slugs is None else slugs == "disabled",
        "null_slugs": body.boolean("nullSlugs"),
        "membership_required": body.boolean("membershipRequired"),
        "organization_quota": body.integer("organizationQuota"),
        "organizations_per_user": body.integer("organizationsPerUser"),
        "creator_role": body.choice("creatorRole", roles),
        "roles": roles,
    }
    latency, rate_limit = body.number("latencyMs"), body.choice("rateLimit", RATE_LIMITS)
    clerk.store.change_settings({name: value for name, value in wanted.items() if value is not None})
    clerk.serializer.forget()
    if latency is not None:
        clerk.latency_ms = min(latency, MAX_SECONDS * 1000.0)
    if rate_limit is not None:
        clerk.limits.mode = cast(RateLimit, rate_limit)
    return Reply.json({})


def patch_record(clerk: LocalClerk, request: Request) -> Reply:
    """Serve one record's JSON with changes that Clerk's rules would not allow, until the next reset."""
    body = request.body("id", "set", "remove")
    patch = RawPatch(body.mapping("set") or {}, frozenset(body.texts("remove") or ()))
    clerk.store.patch_raw(body.required_text("id"), patch)
    return Reply.json({})


def reset(clerk: LocalClerk, request: Request) -> Reply:
    """Go back to the start, or to another population when one is described; the keys stay."""
    body = request.body("seed", "organizations", "users", "membershipsPerOrganization")
    sizes = {
        "seed": body.integer("seed"),
        "organizations": body.integer("organizations"),
        "users": body.integer("users"),
        "memberships_per_organization": body.integer("membershipsPerOrganization"),
    }
    given = {name: value for name, value in sizes.items() if value is not None}
    try:
        seed = Seed(**given) if given else None
    except ValueError as error:
        raise ApiError("form_param_value_invalid", str(error)) from None
    clerk.reset(seed)
    return Reply.json({})


def _require_sane(fault: Fault) -> None:
    kinds = (
        fault.status,
        fault.body,
        fault.rate_limit,
        fault.timeout_seconds,
        fault.drop_after_commit or None,
    )
    if all(kind is None for kind in kinds):
        raise ApiError("form_param_missing", "Say what shall happen, for example status.", param="status")
    if fault.status is not None and fault.status > 599:  # noqa: PLR2004 - the last HTTP status
        raise ApiError("form_param_value_invalid", "status must be 200 to 599.", param="status")
    if (fault.timeout_seconds or 0) > MAX_SECONDS:
        raise ApiError("form_param_value_invalid", "One hour at most.", param="timeoutSeconds")


def _custom_roles(body: Body) -> dict[str, Role]:
    """Roles by key, given as lists of permissions."""
    roles: dict[str, Role] = {}
    for key, permissions in (body.mapping("customRoles") or {}).items():
        if not isinstance(permissions, list) or not all(isinstance(item, str) for item in permissions):
            raise ApiError("form_param_format_invalid", "Lists of permissions by role.", param="customRoles")
        name = key.removeprefix("org:")
        roles[key] = Role(f"role_{name}", key, name.replace("_", " ").title(), tuple(permissions))
    return roles


CONTROL = Router(
    [
        Route("GET", "/sandbox", show_page),
        Route("POST", "/sandbox/session-tokens", create_session_token),
        Route("POST", "/sandbox/users", create_user),
        Route("GET", "/sandbox/faults", list_faults),
        Route("POST", "/sandbox/faults", create_fault),
        Route("DELETE", "/sandbox/faults", clear_faults),
        Route("GET", "/sandbox/requests", list_requests),
        Route("DELETE", "/sandbox/requests", clear_requests),
        Route("POST", "/sandbox/settings", change_settings),
        Route("POST", "/sandbox/records", patch_record),
        Route("POST", "/sandbox/reset", reset),
        *webhook_control.ROUTES,
    ]
)
"""Every path of the control API."""
