"""Every URL of the project."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import TemplateView

from clerk_integration.webhooks.views import receive_webhook
from config.openapi import openapi_document, openapi_page
from tenants.api.exception_handlers import ApiNotFoundView

admin.autodiscover()

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("admin/", admin.site.urls),
    path("api/v1/schema", openapi_document, name="schema"),
    path("api/v1/docs", openapi_page, name="docs"),
    path("api/v1/webhooks/clerk", receive_webhook, name="clerk-webhook"),
    path("api/v1/", include("tenants.api.urls")),
    # Must be last. Without it, Django answers unknown API URLs with an HTML page.
    re_path(r"^api(?:/|$)", ApiNotFoundView.as_view()),
]

handler400 = "tenants.api.exception_handlers.bad_request"
handler403 = "tenants.api.exception_handlers.permission_denied"
handler404 = "tenants.api.exception_handlers.page_not_found"
handler500 = "tenants.api.exception_handlers.server_error"
