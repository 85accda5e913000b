"""Create the organizations of legacy tenants in Clerk: one for each tenant, never two."""

from tenants.backfill.single import create_organization_for

__all__ = ["create_organization_for"]
