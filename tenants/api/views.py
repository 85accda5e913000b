"""The endpoints that change tenants: parse the request, call one service, render the result."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from clerk_integration.exceptions import ClerkError
from tenants.api.errors import create_failure
from tenants.api.reads import TenantReadViewSet, caller
from tenants.api.schema import ClientErrorResponseSerializer
from tenants.api.serializers import TenantCreateSerializer, TenantSerializer
from tenants.lifecycle import primary
from tenants.services import TenantService

IDEMPOTENCY_HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255


class TenantViewSet(TenantReadViewSet):
    """Every endpoint of tenants."""

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
                clerk_user_id=caller(request),
                tenant_data=body.validated_data,
                idempotency_key=_idempotency_key(request),
            )
        except ClerkError as error:
            raise create_failure(error) from error
        return Response(self.rendered(tenant), status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={200: TenantSerializer, 409: ClientErrorResponseSerializer})
    def set_primary(self, request: Request, pk: int) -> Response:
        """Make the tenant the caller's primary."""
        tenant = get_object_or_404(self.get_queryset(), pk=pk)
        primary.set_primary(caller(request), tenant)
        return Response(self.rendered(tenant))


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
