"""Describe each operation for OpenAPI: its id, summary, body, parameters, statuses, headers and errors.

The views do not import this module: only the OpenAPI document needs it and drf-spectacular.
"""

from dataclasses import dataclass
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from tenants.api.errors import CONFLICTS
from tenants.api.pagination import PageParameters
from tenants.api.reads import SYNC_HEADER, TenantReadViewSet
from tenants.api.schema import (
    ClientErrorResponseSerializer,
    ServerErrorResponseSerializer,
    ValidationErrorResponseSerializer,
)
from tenants.api.serializers import (
    HistoryPageSerializer,
    MemberPageSerializer,
    PrimaryIdSerializer,
    TenantChangeSerializer,
    TenantCreateSerializer,
    TenantDeletionParameters,
    TenantListParameters,
    TenantPageParameters,
    TenantPageSerializer,
    TenantSerializer,
)
from tenants.api.views import IDEMPOTENCY_HEADER

SYNC_STATES = (
    "`synced` (fetched from Clerk now), `fresh` (fetched recently), `skipped` (not asked for)"
    " or `stale` (Clerk could not be asked)."
)
"""What the header X-Clerk-Sync says."""


@dataclass(frozen=True)
class Operation:
    """What a client sends to an action, and what it gets if all is well."""

    id: str
    """Clients are generated with methods of these names."""

    response: Any = TenantSerializer
    """The serializer of the body, or a dictionary of serializers by status."""

    request: Any = None
    parameters: tuple[Any, ...] = ()


CHANGED = {200: TenantSerializer, 409: ClientErrorResponseSerializer}

IDEMPOTENCY_KEY = OpenApiParameter(
    IDEMPOTENCY_HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Requests with the same key and body create one tenant only.",
)
OWN_TENANTS = OpenApiResponse(
    TenantSerializer(many=True),
    description=f"The header `{SYNC_HEADER}` is {SYNC_STATES}",
)

OPERATIONS = {
    "create": Operation(
        "createTenant",
        {201: TenantSerializer, 409: ClientErrorResponseSerializer},
        TenantCreateSerializer,
        (IDEMPOTENCY_KEY,),
    ),
    "my_tenants": Operation("listMyTenants", {200: OWN_TENANTS}, parameters=(TenantListParameters,)),
    "primary_id": Operation("getMyPrimaryTenantId", PrimaryIdSerializer),
    "page_of_tenants": Operation("listTenants", TenantPageSerializer, parameters=(TenantPageParameters,)),
    "retrieve": Operation("getTenant"),
    "by_slug": Operation("getTenantBySlug"),
    "by_organization": Operation("getTenantByOrganization"),
    "members": Operation("listTenantMembers", MemberPageSerializer, parameters=(PageParameters,)),
    "history": Operation("listTenantHistory", HistoryPageSerializer, parameters=(PageParameters,)),
    "change": Operation("updateTenant", CHANGED, TenantChangeSerializer),
    "set_primary": Operation("setPrimaryTenant", CHANGED),
    "deactivate": Operation("deactivateTenant", CHANGED),
    "sync": Operation("syncTenant", CHANGED),
    "delete_permanently": Operation(
        "deleteTenant",
        {204: None, 409: ClientErrorResponseSerializer},
        parameters=(TenantDeletionParameters,),
    ),
}
"""The operation of each action of TenantViewSet."""

ERROR_CODES: dict[int, tuple[str, ...]] = {
    400: (
        "invalid",
        "required",
        "null",
        "blank",
        "max_length",
        "min_value",
        "max_value",
        "null_characters_not_allowed",
        "surrogate_characters_not_allowed",
        "invalid_choice",
        "invalid_name",
        "invalid_slug",
        "parse_error",
        "unknown_organization",
    ),
    401: (
        "not_authenticated",
        "authentication_failed",
        "authorization_header_format_invalid",
        "session_pending",
        "jwk_kid_mismatch",
        "token_expired",
        "token_invalid",
        "token_invalid_algorithm",
        "token_invalid_audience",
        "token_invalid_authorized_parties",
        "token_invalid_issuer",
        "token_invalid_signature",
        "token_not_active_yet",
        "token_type_not_supported",
        "api_key_expired",
        "api_key_invalid",
        "api_key_revoked",
        "api_key_subject_not_supported",
    ),
    403: ("clerk_user_required", "permission_denied"),
    404: ("not_found",),
    406: ("not_acceptable",),
    409: ("conflict", *sorted(CONFLICTS.values())),
    413: ("body_too_large",),
    415: ("unsupported_media_type",),
    429: ("throttled",),
    500: ("error", "clerk_misconfigured", "clerk_unavailable", "clerk_rate_limited"),
    503: (
        "clerk_unavailable",
        "clerk_rate_limited",
        "database_unavailable",
        "database_read_only",
        "database_busy",
    ),
}
"""The codes of each status; a code that Clerk sends for the caller's own data is passed on with a 400."""

RETRY_AFTER = {
    "description": "Seconds to wait before the request is sent again.",
    "schema": {"type": "integer"},
}
HEADERS_OF_ERRORS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    409: {"Retry-After": RETRY_AFTER},
    429: {"Retry-After": RETRY_AFTER},
    500: {"Retry-After": RETRY_AFTER},
    503: {"Retry-After": RETRY_AFTER},
}
HEADERS_OF_READS: dict[str, Any] = {
    "ETag": {"description": "Identifies the content, for If-None-Match.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "`private`.", "schema": {"type": "string"}},
    SYNC_HEADER: {
        "description": f"Sent to Clerk users: {SYNC_STATES}",
        "schema": {"type": "string", "enum": ["synced", "fresh", "skipped", "stale"]},
    },
}
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "description": "The ETag of an earlier response; 304 if the content is still the same.",
    "schema": {"type": "string"},
}


class OperationSchema(AutoSchema):
    """Describes an operation by the docstring of its method and by what it may answer."""

    def get_operation_id(self) -> str:
        """Return the id in OPERATIONS; for a view of another project, the library's own."""
        return self._operation.id if self._operation else str(super().get_operation_id())

    def get_request_serializer(self) -> Any:
        """Return the serializer of the request's body."""
        return self._operation.request if self._operation else super().get_request_serializer()

    def get_response_serializers(self) -> Any:
        """Return the serializers of the successful responses."""
        return self._operation.response if self._operation else super().get_response_serializers()

    def get_override_parameters(self) -> list[Any]:
        """Return the parameters in the query and the headers."""
        own: list[Any] = super().get_override_parameters()
        return [*own, *self._operation.parameters] if self._operation else own

    def get_summary(self) -> str | None:
        """Return the first sentence of the docstring."""
        description = super().get_description() or ""
        return description.partition("\n")[0].removesuffix(".") or None

    def get_description(self) -> Any:  # type: ignore[override]  # as the library's own class
        """Return the rest of the docstring."""
        return (super().get_description() or "").partition("\n")[2].strip() or None

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super()._get_parameters()
        for parameter in parameters:
            # An empty parameter counts as missing.
            parameter["schema"].pop("minLength", None)
        return [*parameters, IF_NONE_MATCH] if self._operation and self.method == "GET" else parameters

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if not self._operation:
            return bodies
        if self.method == "GET":
            bodies["200"]["headers"] = HEADERS_OF_READS
            bodies["304"] = {"description": "Not changed since the ETag.", "headers": HEADERS_OF_READS}
        return bodies | {str(status): self._error(status) for status in sorted(self._error_statuses())}

    @property
    def _action(self) -> str:
        return str(getattr(self.view, "action", ""))

    @property
    def _operation(self) -> Operation | None:
        # A project's own views may have actions of the same names.
        return OPERATIONS.get(self._action) if isinstance(self.view, TenantReadViewSet) else None

    def _error_statuses(self) -> set[int]:
        statuses = {400, 401, 403, 404, 406, 500, 503}
        if self.method != "GET":
            statuses |= {409, 413}
        if self._get_request_body():  # type: ignore[no-untyped-call]  # untyped library
            statuses.add(415)
        if self._action in getattr(self.view, "limits", ()):
            statuses.add(429)
        if self._action == "my_tenants":
            statuses.remove(404)
        return statuses

    def _error(self, status: int) -> dict[str, Any]:
        kind, serializer = _shape(status)
        examples = {
            code: {"value": {"type": kind, "errors": [{"code": code, "detail": "...", "attr": None}]}}
            for code in ERROR_CODES[status]
        }
        schema = self.resolve_serializer(serializer, "response").ref
        response = ResolvedComponent(  # type: ignore[no-untyped-call]  # untyped library
            name=f"Error{status}",
            type=ResolvedComponent.RESPONSE,
            schema={
                "description": " or ".join(f"`{code}`" for code in ERROR_CODES[status]),
                "headers": HEADERS_OF_ERRORS.get(status, {}),
                "content": {"application/json": {"schema": schema, "examples": examples}},
            },
            object=status,
        )
        self.registry.register_on_missing(response)
        return dict(response.ref)


def _shape(status: int) -> tuple[str, Any]:
    """Return the `type` and the serializer of the errors with a status."""
    if status == 400:  # noqa: PLR2004
        return "validation_error", ValidationErrorResponseSerializer
    if status < 500:  # noqa: PLR2004
        return "client_error", ClientErrorResponseSerializer
    return "server_error", ServerErrorResponseSerializer
