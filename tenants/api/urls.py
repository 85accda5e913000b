"""URLs below `/api/v1/`, without a trailing slash."""

from django.urls import path

from tenants.api.views import TenantViewSet

urlpatterns = [
    path(
        "tenants/create",
        TenantViewSet.as_view({"post": "create"}, admits_pending_sessions=True),
        name="tenant-create",
    ),
    path(
        "tenants/me/get-tenants",
        TenantViewSet.as_view({"get": "my_tenants"}, admits_pending_sessions=True),
        name="my-tenants",
    ),
    path("tenants/me/primary-id", TenantViewSet.as_view({"get": "primary_id"}), name="my-primary-id"),
    path("tenants", TenantViewSet.as_view({"get": "page_of_tenants"}), name="tenants"),
    path(
        "tenants/organization/<str:clerk_org_id>",
        TenantViewSet.as_view({"get": "by_organization"}),
        name="tenant-by-organization",
    ),
    path("tenants/slug/<str:slug>", TenantViewSet.as_view({"get": "by_slug"}), name="tenant-by-slug"),
    path("tenants/<int:pk>/members", TenantViewSet.as_view({"get": "members"}), name="tenant-members"),
    path(
        "tenants/<int:pk>",
        TenantViewSet.as_view({"get": "retrieve", "patch": "change", "delete": "delete_permanently"}),
        name="tenant-detail",
    ),
    path(
        "tenants/<int:pk>/deactivate",
        TenantViewSet.as_view({"patch": "deactivate"}),
        name="tenant-deactivate",
    ),
    path("tenants/<int:pk>/history", TenantViewSet.as_view({"get": "history"}), name="tenant-history"),
    path("tenants/<int:pk>/sync", TenantViewSet.as_view({"post": "sync"}), name="tenant-sync"),
    path(
        "tenants/<int:pk>/set-primary",
        TenantViewSet.as_view({"patch": "set_primary"}),
        name="tenant-set-primary",
    ),
]
