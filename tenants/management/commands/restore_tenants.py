"""`manage.py restore_tenants`: brings back tenants whose organization Clerk has after all."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.exceptions import ClerkError
from clerk_integration.management.base import DatabaseCommand
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.reconcile import sync_one_organization


class Command(DatabaseCommand):
    """Asks Clerk for the organization of each tenant; exit code 1 if a tenant was not restored."""

    help = (
        "Bring back tenants that are recorded as deleted in Clerk and whose organization Clerk has after all:"
        " with the status that they had before, and their members from Clerk. Changes nothing for the others."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("tenants", type=int, nargs="+", metavar="ID")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore one tenant after the other."""
        progress = self.start_progress(options)
        wanted = list(dict.fromkeys(options["tenants"]))
        progress.start(len(wanted), "tenants")
        failed = 0
        for tenant_id in wanted:
            problem = _restore(tenant_id)
            failed += bool(problem)
            progress.note(f"tenant {tenant_id}: {problem or 'restored'}")
            progress.advance()
        progress.finish({"restored": len(wanted) - failed, "failed": failed})
        if failed:
            count = "1 tenant was" if failed == 1 else f"{failed} tenants were"
            raise CommandError(f"{count} not restored; the lines above say why.")


def _restore(tenant_id: int) -> str:
    """Restore the tenant; return why it was not restored, or an empty string."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        return "There is no such tenant."
    if tenant.clerk_org_id is None or tenant.deleted_at is None:
        return "It is not recorded as deleted in Clerk."
    try:
        restored = sync_one_organization(tenant.clerk_org_id)
    except (ClerkError, TenantError) as error:
        return str(error)
    if restored.deleted_at is not None:
        return f"Clerk has no organization {tenant.clerk_org_id}. Nothing was changed."
    return ""
