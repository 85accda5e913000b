"""The base class of DRF viewsets whose rows belong to one tenant."""

from collections.abc import Iterator
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.relations import ManyRelatedField, RelatedField
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.scoping.exceptions import CrossTenantWrite, TenantNotFound
from tenants.scoping.managers import scoped
from tenants.scoping.references import tenant_path


class TenantScopedViewSetMixin:
    """Limits a viewset to the rows of the request's tenant; rows of other tenants answer 404.

    Related fields accept the tenant's rows only. Place the mixin before DRF's class. A request without a user
    is answered 401, and one without a tenant 404. A queryset of a manager that is not scoped, such as
    `unscoped`, is limited to the tenant, too.
    """

    def check_permissions(self, request: Request) -> None:
        """Raise NotAuthenticated without a user and TenantNotFound without a tenant."""
        super().check_permissions(request)  # type: ignore[misc]  # DRF's class follows
        if request.tenant is None:  # type: ignore[attr-defined]  # set by our authentication
            if not request.user or not request.user.is_authenticated:
                self.permission_denied(request)  # type: ignore[attr-defined]
            raise TenantNotFound

    def get_queryset(self) -> Any:
        """Return the tenant's rows; raise ImproperlyConfigured for a model that is not scoped."""
        return scoped(super().get_queryset())  # type: ignore[misc]

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the serializer; its related fields accept the tenant's rows only."""
        serializer = super().get_serializer(*args, **kwargs)  # type: ignore[misc]
        for field in _related_fields(serializer):
            queryset = field.queryset
            if queryset is not None and tenant_path(queryset.model) is not None:
                field.queryset = scoped(queryset.all())
        return serializer

    def handle_exception(self, exc: Exception) -> Response:
        """Answer 404 to a write that would touch another tenant's row."""
        if isinstance(exc, CrossTenantWrite):
            exc = NotFound()
        response: Response = super().handle_exception(exc)  # type: ignore[misc]
        return response


def _related_fields(serializer: Any) -> Iterator[Any]:
    """Yield the related fields of a serializer, nested serializers included."""
    serializer = getattr(serializer, "child", serializer)
    for field in getattr(serializer, "fields", {}).values():
        if isinstance(field, ManyRelatedField):
            yield field.child_relation
        elif isinstance(field, RelatedField):
            yield field
        else:
            yield from _related_fields(field)
