"""Tenants from before Clerk get their organization in Clerk: one each, and never two.

`single` does it for one tenant in a web request, `plan` and `run` for many in a command, `queueing`
in jobs; `abandoned` finishes what was cut off.
"""

from tenants.backfill.single import create_organization_for

__all__ = ["create_organization_for"]
