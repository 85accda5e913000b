"""Clerk's paths."""

from clerk_integration.sandbox.routes import instance, memberships, organizations, users
from clerk_integration.sandbox.routes.api import API

__all__ = ["API", "instance", "memberships", "organizations", "users"]
