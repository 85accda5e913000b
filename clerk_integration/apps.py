from django.apps import AppConfig
from django.core.signals import request_finished, request_started


class ClerkIntegrationConfig(AppConfig):
    """Register the system checks, and guard the requests to Clerk that web requests cause."""

    name = "clerk_integration"
    verbose_name = "Clerk integration"

    def ready(self) -> None:
        from clerk_integration import checks  # noqa: F401, PLC0415
        from clerk_integration.wire import breaker  # noqa: PLC0415

        request_started.connect(breaker.begin_request)
        request_finished.connect(breaker.end_request)
