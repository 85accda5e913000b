"""URLs of the project, and those of the example app."""

from django.urls import include, path

from config.urls import urlpatterns as project_urls
from tests.example_app import views
from tests.example_app.api import router
from tests.example_app.middleware import choose_tenant

urlpatterns = [
    *project_urls[:-1],  # without the last one, which answers everything else below `/api/`
    path("api/v1/", include(router.urls)),
    path("numbers", views.invoice_numbers),
    path("unpaid", views.unpaid_numbers),
    path("export", views.exported_numbers),
    path("close", views.close),
    path("total", views.raw_total),
    path("choose-tenant/<int:tenant_id>", choose_tenant),
]
