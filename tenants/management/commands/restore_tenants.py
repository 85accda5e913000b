"""`manage.py restore_tenants`: restore tenants recorded as deleted whose organization Clerk still has."""

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.management.one_by_one import OneByOneCommand
from tenants.models import Tenant
from tenants.services import restore


class Command(OneByOneCommand):
    """Ask Clerk for the organization of each tenant, and restore the tenants that Clerk has."""

    help = (
        "Bring back tenants that are recorded as deleted in Clerk and whose organization Clerk has after all:"
        " with the status that they had before, and their members from Clerk. Changes nothing for the others."
    )
    results = ("restored",)

    def change(self, tenant: Tenant) -> tuple[str, str]:
        """Restore one tenant."""
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            restore(tenant, acting_user=None)
        return "restored", "restored"
