"""The admin site of this project: Unfold's, with the dashboard as its index, and a limited login.

A project that installs the apps has the dashboard as a page of the tenants. It can make the dashboard the
index of its own site in the same way.
"""

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.sites import UnfoldAdminSite  # type: ignore[import-untyped]

from config.admin_login import LimitedLoginForm


class Site(UnfoldAdminSite):  # type: ignore[misc]  # Unfold has no types
    """Unfold's admin, with the dashboard and the limited login."""

    login_form = LimitedLoginForm
    index_template = "admin/tenants/dashboard.html"
    index_title = "Dashboard"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the dashboard, and below it the list of all pages."""
        # The pages import the default admin site, which is an instance of this class.
        from tenants.admin.dashboard import dashboard  # noqa: PLC0415

        page: TemplateResponse = super().index(request, {**dashboard(request), **(extra_context or {})})
        return page
