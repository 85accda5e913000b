"""Who may come in at all; which tenants somebody sees is decided by the queryset."""

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from clerk_integration.tokens.authentication import ClerkUser
from tenants.api.errors import ClerkUserRequired


class IsClerkUser(IsAuthenticated):
    """Admits bearers of a Clerk session token; a Django session has no tenants of its own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Raise ClerkUserRequired (403) for somebody signed in otherwise."""
        if not super().has_permission(request, view):
            return False
        if not isinstance(request.user, ClerkUser):
            raise ClerkUserRequired
        return True
