"""The logo of every organization of the local Clerk, which serves none."""

from playwright.sync_api import Route

LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    '<rect width="64" height="64" fill="#0f766e"/><path d="M14 44 L32 16 L50 44 Z" fill="#ccfbf1"/></svg>'
)


def draw_logo(route: Route) -> None:
    """Answer a request for a logo."""
    route.fulfill(body=LOGO, content_type="image/svg+xml")
