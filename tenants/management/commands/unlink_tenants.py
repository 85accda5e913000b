"""`manage.py unlink_tenants`: undo the links of tenants to their organizations."""

import logging
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.management.arguments import positive
from clerk_integration.management.base import DatabaseCommand
from tenants.exceptions import TenantError, UnknownTenants
from tenants.management.interrupts import stop_on_signals
from tenants.models import Tenant
from tenants.services import unlink

logger = logging.getLogger(__name__)


class Command(DatabaseCommand):
    """Unlink tenants one by one; exit with code 1 if a tenant failed or was not tried."""

    help = (
        "Make linked tenants legacy tenants again. Clerk is not called: the organization stays, and a sync "
        "mirrors it as a tenant of its own. link_tenants, or migrate_tenants_to_clerk, links a tenant again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("tenant", type=positive, nargs="+", metavar="ID", help="ids of tenants")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Unlink each tenant in a transaction of its own."""
        progress = self.start_progress(options)
        ids = list(dict.fromkeys(options["tenant"]))
        tenants = Tenant.objects.in_bulk(ids)
        if len(tenants) < len(ids):
            unknown = UnknownTenants([tenant_id for tenant_id in ids if tenant_id not in tenants])
            raise CommandError(f"{unknown} Nothing was changed.")
        counts = {"unlinked": 0, "not_linked": 0, "failed": 0}
        with stop_on_signals() as stopping:
            for tenant in (tenants[tenant_id] for tenant_id in ids):
                if stopping.is_set():
                    break
                result, line = _unlink(tenant)
                counts[result] += 1
                progress.note(f"tenant {tenant.pk}: {line}")
        left = len(ids) - sum(counts.values())
        progress.finish({**counts, "not_tried": left})
        if counts["failed"] or left:
            raise CommandError(
                f"Tenants: {counts['failed']} not unlinked, {left} not tried; the others are unlinked. The"
                " lines above say why. Remove the cause and run the command again for these tenants."
            )


def _unlink(tenant: Tenant) -> tuple[str, str]:
    """Unlink one tenant; return the name of the count and a line for the operator."""
    clerk_org_id = tenant.clerk_org_id
    if clerk_org_id is None:
        return "not_linked", "it is not linked; nothing was changed"
    try:
        unlink(tenant, acting_user=None)
    except TenantError as error:
        return "failed", str(error)
    except Exception as error:  # one tenant must not stop the others
        logger.warning("Tenant %s was not unlinked: %s", tenant.pk, error)
        return "failed", f"{type(error).__name__}: {error}"
    return "unlinked", f"unlinked from {clerk_org_id}"
