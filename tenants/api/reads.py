"""The endpoints that read tenants: parse the request, call one service, render the result."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import transaction
from django.utils.cache import patch_cache_control
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.viewsets import GenericViewSet

from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.api.limits import CallerLimit
from tenants.api.permissions import IsClerkUser
from tenants.api.serializers import (
    TENANT_FIELDS,
    PrimaryIdSerializer,
    TenantListParameters,
    TenantSerializer,
)
from tenants.models import Membership, Tenant
from tenants.querysets import TenantQuerySet
from tenants.services import TenantService

SYNC_HEADER = "X-Clerk-Sync"


class TenantReadViewSet(GenericViewSet[Tenant]):
    """The tenants that the caller may see; `tenants.api.views` adds the endpoints that change them."""

    serializer_class = TenantSerializer
    lookup_value_converter = "int"
    pagination_class = None
    admits_pending_sessions = False
    limits: ClassVar[Mapping[str, str]] = {"my_tenants": "TENANT_LIST_LIMIT"}
    """The setting that limits the requests of each action."""

    staff_actions = frozenset({"retrieve"})
    """Actions that also admit staff with a Django session; the others need a Clerk user."""

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the view, which runs outside the transaction of ATOMIC_REQUESTS because it calls Clerk."""
        return transaction.non_atomic_requests(super().as_view(*args, **kwargs))

    def get_permissions(self) -> list[BasePermission]:
        """Require a Clerk user, except for `staff_actions`."""
        return [IsAuthenticated()] if self.action in self.staff_actions else [IsClerkUser()]

    def get_throttles(self) -> list[BaseThrottle]:
        """Limit the requests of the caller to an action of `limits`."""
        return [CallerLimit(self.limits[self.action])] if self.action in self.limits else []

    def finalize_response(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Keep shared caches from storing the response, which is for its caller."""
        response = super().finalize_response(request, *args, **kwargs)
        patch_cache_control(response, private=True)
        return response

    def get_queryset(self) -> TenantQuerySet:
        """Return the tenants that the caller may see, annotated with the caller's role and primary flag."""
        user = self.request.user
        if isinstance(user, ClerkUser):
            return Tenant.objects.visible_to(user.clerk_user_id)
        if user.has_perm("tenants.view_tenant"):
            return Tenant.objects.all()
        return Tenant.objects.none()

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
        state, tenants = TenantService.list_user_tenants(
            caller(request),
            TENANT_FIELDS,
            sync=parameters.validated_data["sync_from_clerk"],
            active_only=parameters.validated_data["active_only"],
        )
        return Response(tenants, headers={SYNC_HEADER: state.value})

    @extend_schema(responses=PrimaryIdSerializer)
    def primary_id(self, request: Request) -> Response:
        """Return the id of the caller's primary tenant; 404 without one."""
        primary = Membership.objects.primary_of(caller(request)).first()
        if primary is None:
            raise NotFound("You have no primary tenant.")
        return Response(PrimaryIdSerializer(primary).data)

    @extend_schema(responses=TenantSerializer)
    def retrieve(self, request: Request, pk: int) -> Response:
        """Show one tenant."""
        return Response(TenantSerializer(get_object_or_404(self.get_queryset(), pk=pk)).data)

    def rendered(self, tenant: Tenant) -> Any:
        """Return the tenant's JSON; raise Http404 if the caller may not see it (any more)."""
        return TenantSerializer(get_object_or_404(self.get_queryset(), pk=tenant.pk)).data


def caller(request: Request) -> str:
    """Return the Clerk user id of the caller, whom IsClerkUser admitted."""
    user = request.user
    assert isinstance(user, ClerkUser)  # noqa: S101  (IsClerkUser admitted the request)
    return user.clerk_user_id
