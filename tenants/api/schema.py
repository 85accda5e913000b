"""Describe authentication and errors for OpenAPI; importing this module registers the security schemes."""

from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
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
            "description": "A Clerk session token, as getToken() returns it. It is valid for a minute. If the"
            " server accepts API keys: one of Clerk's API keys (`ak_...`) of a user.",
        }


class StaffSessionScheme(SessionScheme):  # type: ignore[no-untyped-call]  # untyped library
    """The cookie scheme: Django's session, for staff."""

    target_class = "tenants.api.authentication.StaffSessionAuthentication"
    name = "staffSession"


class ErrorSerializer(serializers.Serializer[Any]):
    """One error; `attr` names the field or the parameter that is wrong."""

    code = serializers.CharField()
    detail = serializers.CharField()
    attr = serializers.CharField(allow_null=True)


class ValidationErrorResponseSerializer(serializers.Serializer[Any]):
    """The body of a 400."""

    type = serializers.ChoiceField(choices=["validation_error", "client_error"])
    errors = ErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property


class ClientErrorResponseSerializer(serializers.Serializer[Any]):
    """The body of any other 4xx."""

    type = serializers.ChoiceField(choices=["client_error"])
    errors = ErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property


class ServerErrorResponseSerializer(serializers.Serializer[Any]):
    """The body of a 5xx."""

    type = serializers.ChoiceField(choices=["server_error"])
    errors = ErrorSerializer(many=True)  # type: ignore[assignment]  # the field hides the property
