"""What the lists are measured against: DRF views with a ModelSerializer and nothing else, and the floor."""

import json
from typing import Any, ClassVar

from django.db import connection
from django.db.models import F, QuerySet
from django.urls import path
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.generics import ListAPIView
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAdminUser

from config.urls import urlpatterns as of_the_project
from tenants.models import Tenant

USER = "user_benchmark"

BARE_LIST = "/bare-list"
BARE_PAGED_LIST = "/bare-paged-list"

FLOOR = """
SELECT t.id, clerk_org_id, name, slug, logo_url, status, suspension_reason, clerk_metadata, t.created_at,
       updated_at, last_synced_at, role, is_primary
FROM memberships m JOIN tenants t ON t.id = tenant_id
WHERE clerk_user_id = %s AND is_active AND status = 'active' ORDER BY is_primary DESC, m.created_at
"""


class PlainSerializer(serializers.ModelSerializer[Tenant]):
    """The fields of our serializer, under the names of their columns."""

    role = serializers.CharField()
    is_primary = serializers.BooleanField()

    class Meta:
        model = Tenant
        fields: ClassVar = [
            *("id", "clerk_org_id", "name", "slug", "logo_url", "status", "suspension_reason"),
            *("clerk_metadata", "created_at", "updated_at", "last_synced_at", "role", "is_primary"),
        ]


class BareListView(ListAPIView[Tenant]):
    """The tenants of one user, without authentication, freshness and conditional requests."""

    authentication_classes = ()
    permission_classes = ()
    serializer_class = PlainSerializer

    def get_queryset(self) -> QuerySet[Tenant]:
        """Return the user's active tenants."""
        mine = Tenant.objects.filter(
            memberships__clerk_user_id=USER, memberships__is_active=True, status="active"
        )
        return mine.annotate(role=F("memberships__role"), is_primary=F("memberships__is_primary")).order_by(
            "-is_primary", "memberships__created_at"
        )


class BarePage(PageNumberPagination):
    """Pages of 50, as ours."""

    page_size = 50


class StaffTenantSerializer(serializers.ModelSerializer[Tenant]):
    """The columns of our serializer; staff have no role and no primary tenant."""

    class Meta:
        model = Tenant
        fields: ClassVar = [
            name for name in PlainSerializer.Meta.fields if name not in ("role", "is_primary")
        ]


class BarePagedListView(ListAPIView[Tenant]):
    """All tenants for staff, with DRF's own filters, and with the filters by status and link."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = (IsAdminUser,)
    serializer_class = StaffTenantSerializer
    pagination_class = BarePage
    filter_backends = (SearchFilter, OrderingFilter)
    search_fields = ("name", "=slug", "=clerk_org_id")
    ordering_fields = ("id", "name")
    ordering = ("id",)

    def get_queryset(self) -> QuerySet[Tenant]:
        """Return the tenants with the status and the link that the query asks for."""
        tenants, given = Tenant.objects.all(), self.request.query_params
        if "status" in given:
            tenants = tenants.filter(status=given["status"])
        if "linked" in given:
            tenants = tenants.filter(clerk_org_id__isnull=given["linked"] == "false")
        return tenants


def floor() -> int:
    """Run one statement, render its rows, and return the number of characters."""
    with connection.cursor() as cursor:
        cursor.execute(FLOOR, [USER])
        names = [column.name for column in cursor.description]
        rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return len(json.dumps(rows, default=str))


urlpatterns = [
    path(BARE_LIST.removeprefix("/"), BareListView.as_view()),
    path(BARE_PAGED_LIST.removeprefix("/"), BarePagedListView.as_view()),
    *of_the_project,
]
