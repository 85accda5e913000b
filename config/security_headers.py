"""Response headers that Django's SecurityMiddleware lacks: Content-Security-Policy and Permissions-Policy.

| answer            | policy                                                                                |
| ----------------- | ------------------------------------------------------------------------------------- |
| pages             | files of this server only; no inline script, no inline style, no `eval`, no framing   |
| admin pages       | the same, but inline styles and `eval`, because Unfold's templates need both, and     |
|                   | images from any https server, because Clerk serves the logos of organizations         |
| everything else   | nothing may be loaded, should a browser ever show the answer as a page                |

Unfold uses the standard build of Alpine.js, which evaluates the expressions of its templates (`x-data`, ...),
and writes its theme colors into a `<style>` element. Inline scripts stay forbidden in the admin.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from rest_framework import status

_PAGES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
_ADMIN_PAGES = {
    **_PAGES,
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: https:",
}


def _policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


PAGE_POLICY = _policy(_PAGES)
ADMIN_POLICY = _policy(_ADMIN_PAGES)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"

# Django's error pages of development are made of inline scripts and styles.
DEBUG_PAGES = {status.HTTP_404_NOT_FOUND, status.HTTP_500_INTERNAL_SERVER_ERROR}


class SecurityHeadersMiddleware(MiddlewareMixin):
    """Adds both headers to an answer that does not have them yet."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response with the headers."""
        if not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response.headers.setdefault("Content-Security-Policy", _policy_of(request, response))
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        return response


def _policy_of(request: HttpRequest, response: HttpResponseBase) -> str:
    if not response.headers.get("Content-Type", "").startswith("text/html"):
        return DATA_POLICY
    return ADMIN_POLICY if request.path.startswith(reverse("admin:index")) else PAGE_POLICY
