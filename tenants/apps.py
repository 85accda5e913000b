from django.apps import AppConfig, apps
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created
from django.db.models.signals import pre_save


class TenantsConfig(AppConfig):
    """The app that stores tenants and memberships, and applies Clerk's records to them."""

    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if not apps.is_installed("procrastinate.contrib.django"):
            return  # A system check says so; without its models nothing here can be imported.
        from tenants.scoping import context, requests, row_security, writes  # noqa: PLC0415  (models)
        from tenants.webhooks import register_handlers  # noqa: PLC0415

        register_handlers()
        request_started.connect(context.enter_request)
        request_finished.connect(context.leave_request)
        pre_save.connect(writes.check_saved_row)
        connection_created.connect(row_security.watch_connection)
        requests.install_attributes()
