from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """The domain: owns the rows, decides what Clerk's facts mean."""

    name = "tenants"

    def ready(self) -> None:
        from tenants.webhooks import register_handlers  # noqa: PLC0415  (imports models)

        register_handlers()
