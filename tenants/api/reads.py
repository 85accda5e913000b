"""The endpoints that read tenants: parse the request, call one service, render the result."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar

from django.db import transaction
from django.db.models import F
from django.db.models.lookups import IsNull
from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response, patch_cache_control, set_response_etag
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.status import HTTP_200_OK, HTTP_412_PRECONDITION_FAILED
from rest_framework.throttling import BaseThrottle
from rest_framework.viewsets import GenericViewSet

from clerk_integration.log_context import add_to_log
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.wire.ids import ORGANIZATION, is_id
from tenants.api.configuration import ApiConfiguration
from tenants.api.limits import CallerLimit
from tenants.api.pagination import PageParameters, page_response
from tenants.api.permissions import IsClerkUser
from tenants.api.serializers import (
    MEMBER_FIELDS,
    TENANT_FIELDS,
    PrimaryIdSerializer,
    TenantListParameters,
    TenantPageParameters,
    TenantSerializer,
)
from tenants.models import Membership, Tenant
from tenants.querysets import TenantQuerySet, json_values
from tenants.services import JUST_IN_TIME_SECONDS, TenantService

SYNC_HEADER = "X-Clerk-Sync"

Parameters = TypeVar("Parameters", bound=Serializer[Any])


class TenantReadViewSet(ApiConfiguration, GenericViewSet[Tenant]):
    """The tenants that the caller may see; `tenants.api.views` adds the endpoints that change them.

    Before each action, the view updates the memberships of a Clerk user from Clerk if they are not fresh, so
    that a removed member loses access even without webhooks.
    """

    serializer_class = TenantSerializer
    lookup_value_converter = "int"
    admits_pending_sessions = False
    limits: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("my_tenants", "page_of_tenants"), "TENANT_LIST_LIMIT"
    )
    """The setting that limits the requests of each action."""

    staff_actions = frozenset(
        {"metadata", "page_of_tenants", "retrieve", "by_slug", "by_organization", "members"}
    )
    """Actions that also admit staff with a Django session; the others need a Clerk user."""

    unsynced_actions = frozenset({"my_tenants", "create", "metadata", None})
    """Actions that ask Clerk themselves or read no tenant; None is a method that is not allowed."""

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the view, which runs outside the transaction of ATOMIC_REQUESTS because it calls Clerk."""
        return transaction.non_atomic_requests(super().as_view(*args, **kwargs))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Admit the caller, and update the memberships of a Clerk user."""
        add_to_log(tenant=kwargs.get("pk"), organization=kwargs.get("clerk_org_id"))
        super().initial(request, *args, **kwargs)
        if isinstance(request.user, ClerkUser) and self.action not in self.unsynced_actions:
            state = TenantService.sync_user_tenants_from_clerk(request.user.clerk_user_id)
            self.headers[SYNC_HEADER] = state.value

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Let only the caller's own cache keep the response, and answer 304 if it has the current one."""
        finalized = super().finalize_response(request, response, *args, **kwargs)
        patch_cache_control(finalized, private=True)
        if request.method == "GET" and finalized.status_code == HTTP_200_OK:
            finalized.add_post_render_callback(partial(_unless_cached, request._request))
        return finalized

    def get_permissions(self) -> list[BasePermission]:
        """Require a Clerk user, except for `staff_actions`."""
        return [IsAuthenticated()] if self.action in self.staff_actions else [IsClerkUser()]

    def get_throttles(self) -> list[BaseThrottle]:
        """Limit the requests of the caller to an action of `limits`."""
        return [CallerLimit(self.limits[self.action])] if self.action in self.limits else []

    def get_queryset(self) -> TenantQuerySet:
        """Return the tenants that the caller may see, annotated with the caller's role and primary flag."""
        user = self.request.user
        if isinstance(user, ClerkUser):
            return Tenant.objects.visible_to(user.clerk_user_id)
        if user.has_perm("tenants.view_tenant"):
            return Tenant.objects.for_staff()
        return Tenant.objects.none()

    def my_tenants(self, request: Request) -> Response:
        """List the caller's tenants, the primary first, then by time of joining."""
        parameters = checked(TenantListParameters, request).validated_data
        state, tenants = TenantService.list_user_tenants(
            caller(request),
            TENANT_FIELDS,
            sync=parameters["sync_from_clerk"],
            active_only=parameters["active_only"],
        )
        return Response(tenants, headers={SYNC_HEADER: state.value})

    def primary_id(self, request: Request) -> Response:
        """Return the id of the caller's primary tenant; 404 without one."""
        primary = Membership.objects.primary_of(caller(request)).first()
        if primary is None:
            raise NotFound("You have no primary tenant.")
        return Response(PrimaryIdSerializer(primary).data)

    def page_of_tenants(self, request: Request) -> Response:
        """List the tenants that the caller may see: all for staff, their own for members."""
        parameters = checked(TenantPageParameters, request)
        given = dict(parameters.validated_data)
        if not (isinstance(request.user, ClerkUser) or request.user.has_perm("tenants.view_tenant")):
            raise PermissionDenied
        page, page_size, _ = given.pop("page"), given.pop("page_size"), given.pop("ordering")
        tenants = self.get_queryset().order_by(*parameters.order())
        return page_response(
            request,
            json_values(tenants, dict(TENANT_FIELDS)),
            page=page,
            page_size=page_size,
            matching=tenants.matching(**given),
        )

    def retrieve(self, request: Request, pk: int) -> Response:
        """Show one tenant."""
        return Response(TenantSerializer(get_object_or_404(self.get_queryset(), pk=pk)).data)

    def by_slug(self, request: Request, slug: str) -> Response:
        """Show the tenant with this slug: a linked tenant before a legacy one, then the newest."""
        if "\x00" in slug:  # PostgreSQL refuses it.
            raise NotFound
        candidates = self.get_queryset().filter(slug=slug, deleted_at=None)
        tenant = candidates.order_by(IsNull(F("clerk_org_id"), True), "-created_at", "-id").first()
        if tenant is None:
            raise NotFound
        return Response(TenantSerializer(tenant).data)

    def by_organization(self, request: Request, clerk_org_id: str) -> Response:
        """Show the tenant of this organization, fetched from Clerk if it is not stored yet."""
        if not is_id(clerk_org_id, ORGANIZATION):
            raise NotFound
        tenants = self.get_queryset().filter(clerk_org_id=clerk_org_id)
        tenant = tenants.first()
        if tenant is None:
            self._fetch_organization(request, clerk_org_id)
            tenant = tenants.first()
        if tenant is None:
            raise NotFound
        return Response(TenantSerializer(tenant).data)

    def members(self, request: Request, pk: int) -> Response:
        """List the current and former members of a tenant by time of joining."""
        given = checked(PageParameters, request).validated_data
        tenant = get_object_or_404(self.get_queryset(), pk=pk)
        if not (isinstance(request.user, ClerkUser) or request.user.has_perm("tenants.view_membership")):
            raise PermissionDenied
        members = json_values(Membership.objects.of_tenant(tenant.pk), dict(MEMBER_FIELDS))
        return page_response(request, members, **given)

    def rendered(self, tenant: Tenant) -> Any:
        """Return the tenant's JSON; raise Http404 if the caller may not see it (any more)."""
        return TenantSerializer(get_object_or_404(self.get_queryset(), pk=tenant.pk)).data

    def _fetch_organization(self, request: Request, clerk_org_id: str) -> None:
        """Fetch the organization for staff, or all organizations of the caller for a member."""
        user = request.user
        if isinstance(user, ClerkUser):
            TenantService.sync_user_tenants_from_clerk(user.clerk_user_id, max_age=JUST_IN_TIME_SECONDS)
        elif user.has_perm("tenants.view_tenant"):
            TenantService.get_or_sync_from_clerk(clerk_org_id)


def caller(request: Request) -> str:
    """Return the Clerk user id of the caller, whom IsClerkUser admitted."""
    user = request.user
    assert isinstance(user, ClerkUser)  # noqa: S101  (IsClerkUser admitted the request)
    return user.clerk_user_id


def checked(serializer: type[Parameters], request: Request) -> Parameters:
    """Return the serializer of the query parameters; raise ValidationError if one is malformed."""
    parameters = serializer(data=request.query_params)
    parameters.is_valid(raise_exception=True)
    return parameters


def _unless_cached(request: HttpRequest, response: Response) -> HttpResponse | None:
    """Return the rendered response with its ETag, or 304 if the request's If-None-Match has that ETag.

    A read ignores If-Match and If-Unmodified-Since, which Django would answer with an empty page and 412.
    """
    set_response_etag(response)
    answer = get_conditional_response(request, etag=response.headers["ETag"], response=response)
    if answer is not None and answer.status_code == HTTP_412_PRECONDITION_FAILED:
        return None
    if answer is not None and answer is not response and SYNC_HEADER in response.headers:
        answer.headers[SYNC_HEADER] = response.headers[SYNC_HEADER]
    return answer
