from django.apps import AppConfig
from django.core.signals import request_finished, request_started


class TenantsConfig(AppConfig):
    """The app that stores tenants and memberships, and applies Clerk's records to them."""

    name = "tenants"

    def ready(self) -> None:
        from tenants.mirror import locks  # noqa: PLC0415  (imports models)
        from tenants.webhooks import register_handlers  # noqa: PLC0415

        register_handlers()
        request_started.connect(locks.enter_request)
        request_finished.connect(locks.leave_request)
