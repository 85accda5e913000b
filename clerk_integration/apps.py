from django.apps import AppConfig
from django.core.signals import request_finished, request_started


class ClerkIntegrationConfig(AppConfig):
    """Registers the system checks, and guards what web requests ask of Clerk."""

    name = "clerk_integration"
    verbose_name = "Clerk integration"

    def ready(self) -> None:
        from clerk_integration import checks  # noqa: F401, PLC0415
        from clerk_integration.wire import breaker  # noqa: PLC0415

        request_started.connect(breaker.begin_request)
        request_finished.connect(breaker.end_request)
