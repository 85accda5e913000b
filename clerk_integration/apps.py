from django.apps import AppConfig


class ClerkIntegrationConfig(AppConfig):
    """Registers the system checks once apps are loaded."""

    name = "clerk_integration"
    verbose_name = "Clerk integration"

    def ready(self) -> None:
        from clerk_integration import checks  # noqa: F401, PLC0415
