"""The tenant endpoints: each action parses the request, calls one service and renders the result."""

from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from clerk_integration.exceptions import ClerkError
from clerk_integration.tokens.authentication import ClerkUser
from tenants.api.errors import create_failure
from tenants.api.permissions import IsClerkUser
from tenants.api.schema import ClientErrorResponseSerializer
from tenants.api.serializers import (
    PrimaryIdSerializer,
    TenantCreateSerializer,
    TenantListParameters,
    TenantSerializer,
)
from tenants.lifecycle import primary
from tenants.models import Membership, Tenant
from tenants.querysets import TenantQuerySet
from tenants.services import SyncState, TenantService

IDEMPOTENCY_HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
SYNC_HEADER = "X-Clerk-Sync"

STAFF_ACTIONS = frozenset({"retrieve"})
"""Actions that also admit staff with a Django session; the others need a Clerk user."""


class TenantViewSet(GenericViewSet[Tenant]):
    """The caller's tenants."""

    serializer_class = TenantSerializer
    lookup_value_converter = "int"
    pagination_class = None
    admits_pending_sessions = False

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the view, which runs outside the transaction of ATOMIC_REQUESTS because it calls Clerk."""
        return transaction.non_atomic_requests(super().as_view(*args, **kwargs))

    def get_permissions(self) -> list[BasePermission]:
        """Require a Clerk user, except for STAFF_ACTIONS."""
        return [IsAuthenticated()] if self.action in STAFF_ACTIONS else [IsClerkUser()]

    def get_queryset(self) -> TenantQuerySet:
        """Return the tenants that the caller may see, annotated with the caller's role and primary flag."""
        user = self.request.user
        if isinstance(user, ClerkUser):
            return Tenant.objects.for_caller(user.clerk_user_id).visible_to_member()
        if user.has_perm("tenants.view_tenant"):
            return Tenant.objects.all()
        return Tenant.objects.none()

    @extend_schema(
        request=TenantCreateSerializer,
        responses={201: TenantSerializer, 409: ClientErrorResponseSerializer},
        parameters=[
            OpenApiParameter(
                IDEMPOTENCY_HEADER,
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="Requests with the same key and body create one tenant only.",
            )
        ],
    )
    def create(self, request: Request) -> Response:
        """Create an organization in Clerk and its tenant here, and make it the caller's primary."""
        body = TenantCreateSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        try:
            tenant = TenantService.create_tenant_from_clerk(
                clerk_user_id=_caller(request),
                tenant_data=body.validated_data,
                idempotency_key=_idempotency_key(request),
            )
        except ClerkError as error:
            raise create_failure(error) from error
        return Response(self._rendered(tenant), status=status.HTTP_201_CREATED)

    @extend_schema(
        parameters=[TenantListParameters],
        responses={
            200: OpenApiResponse(
                TenantSerializer(many=True),
                description="The header `X-Clerk-Sync` is `synced` (fetched from Clerk now), `fresh` (fetched"
                " recently), `skipped` (not asked for) or `stale` (Clerk could not be asked).",
            )
        },
    )
    def my_tenants(self, request: Request) -> Response:
        """List the caller's tenants, the primary first, then by time of joining."""
        parameters = TenantListParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        state = SyncState.SKIPPED
        if parameters.validated_data["sync_from_clerk"]:
            state = TenantService.sync_user_tenants_from_clerk(_caller(request))
        tenants = self.get_queryset().in_caller_order()
        if parameters.validated_data["active_only"]:
            tenants = tenants.filter(status=Tenant.Status.ACTIVE)
        return Response(TenantSerializer(tenants, many=True).data, headers={SYNC_HEADER: state.value})

    @extend_schema(responses=PrimaryIdSerializer)
    def primary_id(self, request: Request) -> Response:
        """Return the id of the caller's primary tenant; 404 without one."""
        primary = Membership.objects.primary_of(_caller(request)).first()
        if primary is None:
            raise NotFound("You have no primary tenant.")
        return Response(PrimaryIdSerializer(primary).data)

    @extend_schema(responses=TenantSerializer)
    def retrieve(self, request: Request, pk: int) -> Response:
        """Show one tenant."""
        return Response(TenantSerializer(get_object_or_404(self.get_queryset(), pk=pk)).data)

    @extend_schema(request=None, responses={200: TenantSerializer, 409: ClientErrorResponseSerializer})
    def set_primary(self, request: Request, pk: int) -> Response:
        """Make the tenant the caller's primary."""
        tenant = get_object_or_404(self.get_queryset(), pk=pk)
        primary.set_primary(_caller(request), tenant)
        return Response(self._rendered(tenant))

    def _rendered(self, tenant: Tenant) -> Any:
        """Return the tenant's JSON; raise Http404 if the caller may not see it (any more)."""
        return TenantSerializer(get_object_or_404(self.get_queryset(), pk=tenant.pk)).data


def _caller(request: Request) -> str:
    user = request.user
    assert isinstance(user, ClerkUser)  # noqa: S101  (IsClerkUser admitted the request)
    return user.clerk_user_id


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is not None and not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise ValidationError(
            {
                IDEMPOTENCY_HEADER: [
                    f"Send 1 to {MAX_KEY_LENGTH} printable ASCII characters, or omit the header."
                ]
            }
        )
    return key
