"""`manage.py unlink_tenants`: undo the links of tenants to their organizations."""

from tenants.management.one_by_one import OneByOneCommand
from tenants.models import Tenant
from tenants.services import unlink


class Command(OneByOneCommand):
    """Unlink each tenant in a transaction of its own."""

    help = (
        "Make linked tenants legacy tenants again. Clerk is not called: the organization stays, and a sync "
        "mirrors it as a tenant of its own. link_tenants, or migrate_tenants_to_clerk, links a tenant again."
    )
    results = ("unlinked", "not_linked")

    def change(self, tenant: Tenant) -> tuple[str, str]:
        """Unlink one tenant."""
        clerk_org_id = tenant.clerk_org_id
        if clerk_org_id is None:
            return "not_linked", "it is not linked; nothing was changed"
        unlink(tenant, acting_user=None)
        return "unlinked", f"unlinked from {clerk_org_id}"
