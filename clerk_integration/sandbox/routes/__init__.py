"""Clerk's paths."""

from clerk_integration.sandbox.routes import instance, memberships, organizations, users
from clerk_integration.sandbox.routing import Router

API = Router([*instance.ROUTES, *organizations.ROUTES, *memberships.ROUTES, *users.ROUTES])
"""Every path of Clerk's that the sandbox answers."""
