"""The endpoints that change tenants: parse the request, call one service, render the result."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from rest_framework import status
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from clerk_integration.exceptions import ClerkError
from clerk_integration.tokens.clerk_user import ClerkUser
from tenants import services
from tenants.api.errors import change_failure, create_failure
from tenants.api.pagination import PageParameters, page_response
from tenants.api.reads import TenantReadViewSet, caller, checked
from tenants.api.serializers import (
    TenantChangeSerializer,
    TenantCreateSerializer,
    TenantDeletionParameters,
    history_entry,
)
from tenants.exceptions import OrganizationDeleted
from tenants.lifecycle import primary
from tenants.lifecycle.status import refuse_inactive
from tenants.models import Tenant, TenantHistory
from tenants.querysets import CLERK_ADMIN_ROLE, LEGACY_ADMIN_ROLES
from tenants.services import TenantService

IDEMPOTENCY_HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255


class TenantViewSet(TenantReadViewSet):
    """Every endpoint of tenants.

    Who may change a tenant is decided by the stored membership, never by the token alone: by an admin's role,
    or by a permission of staff.
    """

    limits: ClassVar[Mapping[str, str]] = {
        **TenantReadViewSet.limits,
        "create": "TENANT_CREATE_LIMIT",
        "sync": "TENANT_SYNC_LIMIT",
    }
    staff_actions = TenantReadViewSet.staff_actions | {
        "change",
        "deactivate",
        "sync",
        "history",
        "delete_permanently",
    }

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

    def change(self, request: Request, pk: int) -> Response:
        """Change name and slug, in Clerk first; staff also change the status."""
        body = TenantChangeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tenant = self._administered(pk, *body.staff_permissions, staff_only=body.changes_status)
        with _change_errors():
            services.change(tenant, **body.validated_data, acting_user=request.user)
        return Response(self.rendered(tenant))

    def set_primary(self, request: Request, pk: int) -> Response:
        """Make the tenant the caller's primary."""
        tenant = get_object_or_404(self.get_queryset(), pk=pk)
        primary.set_primary(caller(request), tenant)
        return Response(self.rendered(tenant))

    def deactivate(self, request: Request, pk: int) -> Response:
        """Close the tenant to its members; staff can reactivate it. Clerk is left alone."""
        tenant = self._administered(pk, "tenants.change_tenant_status")
        if isinstance(request.user, ClerkUser) and tenant.status == Tenant.Status.SUSPENDED:
            refuse_inactive(tenant)
        services.deactivate(tenant, acting_user=request.user)
        return Response(self.rendered(tenant))

    def sync(self, request: Request, pk: int) -> Response:
        """Fetch the organization and all its memberships from Clerk now."""
        tenant = self._administered(pk, "tenants.sync_tenant")
        if TenantService.refresh_from_clerk(tenant).deleted_at is not None:
            raise OrganizationDeleted(
                f"{tenant.clerk_org_id} was deleted in Clerk. The tenant is deactivated; its data is kept."
            )
        return Response(self.rendered(tenant))

    def delete_permanently(self, request: Request, pk: int) -> Response:
        """Delete the tenant and its memberships permanently, if its organization is gone from Clerk."""
        parameters = TenantDeletionParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        tenant = self._administered(pk, "tenants.delete_tenant", staff_only=True)
        with _change_errors():
            services.delete(tenant, **parameters.validated_data, acting_user=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def history(self, request: Request, pk: int) -> Response:
        """List the changes of the tenant and its memberships, newest first."""
        page = checked(PageParameters, request).validated_data
        tenant = self._administered(pk, "tenants.view_tenanthistory")
        response = page_response(request, TenantHistory.objects.of_tenant(tenant.pk), **page)
        response.data["results"] = [history_entry(row) for row in response.data["results"]]
        return response

    def _administered(self, pk: int, *permissions: str, staff_only: bool = False) -> Tenant:
        """Return the tenant for a caller who administers it, or for staff with all of `permissions`.

        Raise Http404 if the caller may not see the tenant, PermissionDenied if the caller may not change it.
        """
        tenant = get_object_or_404(self.get_queryset(), pk=pk)
        user = self.request.user
        if isinstance(user, ClerkUser):
            is_allowed = not staff_only and _is_admin_of(tenant)
        else:
            # Django requires `has_perm` of a user model for its admin, but not `has_perms`.
            is_allowed = all(map(user.has_perm, permissions))
        if not is_allowed:
            raise PermissionDenied
        return tenant


def _is_admin_of(tenant: Any) -> bool:
    """Return whether the caller's stored membership of the tenant has an admin's role."""
    role = tenant.caller_role
    return role == CLERK_ADMIN_ROLE or (tenant.is_legacy and role in LEGACY_ADMIN_ROLES)


@contextmanager
def _change_errors() -> Iterator[None]:
    """Turn a failure of Clerk during a change into its API error."""
    try:
        yield
    except ClerkError as error:
        raise change_failure(error) from error


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
