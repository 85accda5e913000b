"""How signing in and our errors appear in OpenAPI; importing this module registers the former."""

from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_standardized_errors.openapi_serializers import ClientErrorEnum, ServerErrorEnum
from rest_framework import serializers


class ClerkSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped library
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


class StaffSessionScheme(SessionScheme):  # type: ignore[no-untyped-call]  # untyped library
    """Django's session cookie, for staff."""

    target_class = "tenants.api.authentication.StaffSessionAuthentication"
    name = "staffSession"


class OpenCodeErrorSerializer(serializers.Serializer[Any]):
    """An error whose code is one of many; the library's own schemas know only DRF's codes."""

    code = serializers.CharField()
    detail = serializers.CharField()
    attr = serializers.CharField(allow_null=True)


class ClientErrorResponseSerializer(serializers.Serializer[Any]):
    """401, 403 and 409, such as `token_expired`, `clerk_user_required` and `tenant_inactive`."""

    type = serializers.ChoiceField(choices=ClientErrorEnum.choices)
    errors = OpenCodeErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property


class ServerErrorResponseSerializer(serializers.Serializer[Any]):
    """500 and 503, such as `clerk_unavailable` and `clerk_rate_limited`."""

    type = serializers.ChoiceField(choices=ServerErrorEnum.choices)
    errors = OpenCodeErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property
