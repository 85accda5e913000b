from django.apps import AppConfig
from django.core.signals import request_finished, request_started


class ClerkIntegrationConfig(AppConfig):
    """Register the system checks, and record whether the running code serves a web request."""

    name = "clerk_integration"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Clerk integration"

    def ready(self) -> None:
        from clerk_integration import checks, installation_checks, web_requests  # noqa: F401, PLC0415

        request_started.connect(web_requests.begin_request)
        request_finished.connect(web_requests.end_request)
