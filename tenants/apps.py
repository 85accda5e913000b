from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """The domain: owns the rows, decides what Clerk's facts mean."""

    name = "tenants"
