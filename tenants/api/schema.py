"""How the two ways to sign in appear in the OpenAPI document; importing this module registers them."""

from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class ClerkSessionScheme(OpenApiAuthenticationExtension):
    """`Authorization: Bearer <Clerk session token>`."""

    target_class = "tenants.api.authentication.ClerkSessionAuthentication"
    name = "clerkSession"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """Return the OpenAPI security scheme."""
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A Clerk session token, as getToken() returns it. It lives for a minute.",
        }


class StaffSessionScheme(SessionScheme):
    """Django's session cookie, for staff."""

    target_class = "tenants.api.authentication.StaffSessionAuthentication"
    name = "staffSession"
