"""An admin site for this project and for projects that install the apps: its index is the dashboard."""

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse


class DashboardSite(AdminSite):
    """An admin site whose index is the dashboard of tenants, and whose login is limited.

    To use it, set `default_site` of the admin's AppConfig to a subclass. It is a mixin of Unfold's site, too.
    """

    index_template = "admin/tenants/dashboard.html"
    index_title = "Dashboard"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the dashboard, and below it the list of all pages."""
        # The pages import the default admin site, which is an instance of this class.
        from tenants.admin.dashboard import dashboard  # noqa: PLC0415

        return super().index(request, {**dashboard(request), **(extra_context or {})})
