"""Links to the pages of organizations in Clerk's dashboard."""

from urllib.parse import urljoin

from clerk_integration.conf import clerk_settings
from clerk_integration.wire.api_url import is_loopback_url

DASHBOARD = "https://dashboard.clerk.com/~/organizations/"
"""The dashboard replaces `~` with the application and instance that the person opened last."""


def organization_page_url(org_id: str) -> str:
    """Return the URL of the organization in Clerk's dashboard, or of the page of a local Clerk."""
    api_url = clerk_settings.api_url
    return urljoin(api_url, "/sandbox") if is_loopback_url(api_url) else f"{DASHBOARD}{org_id}"
