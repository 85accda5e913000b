"""Describe authentication and errors for OpenAPI; importing this module registers the security schemes."""

from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_standardized_errors.openapi_serializers import ClientErrorEnum, ServerErrorEnum
from rest_framework import serializers


class ClerkSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped library
    """The bearer scheme: `Authorization: Bearer <Clerk session token>`."""

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
    """The cookie scheme: Django's session, for staff."""

    target_class = "tenants.api.authentication.StaffSessionAuthentication"
    name = "staffSession"


class OpenCodeErrorSerializer(serializers.Serializer[Any]):
    """One error with any code; the library's own schemas allow DRF's codes only."""

    code = serializers.CharField()
    detail = serializers.CharField()
    attr = serializers.CharField(allow_null=True)


class ClientErrorResponseSerializer(serializers.Serializer[Any]):
    """The body of a 401, 403 or 409, with codes such as `token_expired` or `tenant_inactive`."""

    type = serializers.ChoiceField(choices=ClientErrorEnum.choices)
    errors = OpenCodeErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property


class ServerErrorResponseSerializer(serializers.Serializer[Any]):
    """The body of a 500 or 503, with codes such as `clerk_unavailable`."""

    type = serializers.ChoiceField(choices=ServerErrorEnum.choices)
    errors = OpenCodeErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property
