"""Decide which callers a view admits. The queryset decides which tenants a caller sees."""

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.api.errors import ClerkUserRequired


class IsClerkUser(IsAuthenticated):
    """Admits callers with a Clerk session token; a Django session belongs to no Clerk user."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Raise ClerkUserRequired (403) for a caller with a Django session."""
        if not super().has_permission(request, view):
            return False
        if not isinstance(request.user, ClerkUser):
            raise ClerkUserRequired
        return True
