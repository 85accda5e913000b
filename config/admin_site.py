"""The admin site of this project: Unfold's, with the dashboard as its index."""

from unfold.sites import UnfoldAdminSite  # type: ignore[import-untyped]

from tenants.admin_site import DashboardSite


class Site(DashboardSite, UnfoldAdminSite):  # type: ignore[misc]  # Unfold has no types
    """Unfold's admin, with the dashboard."""
