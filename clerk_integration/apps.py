from django.apps import AppConfig


class ClerkIntegrationConfig(AppConfig):
    """Everything that knows Clerk; knows nothing of tenants."""

    name = "clerk_integration"
    verbose_name = "Clerk integration"

    def ready(self) -> None:
        from clerk_integration import checks  # noqa: F401, PLC0415  (registers the checks once apps are loaded)
