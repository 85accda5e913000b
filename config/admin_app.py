"""The admin app, whose pages are imported with the URLs: a command that serves no page needs none of them."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminConfig(SimpleAdminConfig):
    """Django's admin app; `config.urls` and the system checks import the pages."""

    default_site = "config.admin_site.Site"

    def ready(self) -> None:
        """Register Django's system checks of the admin."""
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Import and check the admin pages; Django may run the checks before it imports the URLs."""
    admin.autodiscover()
    return check_admin_app(app_configs, **kwargs)
