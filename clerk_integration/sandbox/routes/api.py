"""The router of Clerk's own paths, in which the other modules of this package register theirs."""

from clerk_integration.sandbox.routing import Router

API = Router()
