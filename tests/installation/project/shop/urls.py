from django.contrib import admin
from django.urls import include, path

from clerk_integration.webhooks.views import receive_webhook


def no_handler(exc, context):
    raise AssertionError("the project's own handler of exceptions was called")


urlpatterns = [
    path("back-office/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("clerk/webhook", receive_webhook),
    path("v2/", include("tenants.api.urls")),
]
