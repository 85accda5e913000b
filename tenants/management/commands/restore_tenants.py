"""`manage.py restore_tenants`: restore tenants recorded as deleted whose organization Clerk still has."""

import logging
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import connection

from clerk_integration.exceptions import ClerkError
from clerk_integration.management.arguments import positive
from clerk_integration.management.base import DatabaseCommand
from tenants.exceptions import TenantError
from tenants.management.interrupts import stop_on_signals
from tenants.models import Tenant
from tenants.reconcile import sync_one_organization
from tenants.runs.failures import FailedAlike, FailureStreak

logger = logging.getLogger(__name__)


class Command(DatabaseCommand):
    """Ask Clerk for the organization of each tenant; exit with code 1 if a tenant was not restored."""

    help = (
        "Bring back tenants that are recorded as deleted in Clerk and whose organization Clerk has after all:"
        " with the status that they had before, and their members from Clerk. Changes nothing for the others."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("tenants", type=positive, nargs="+", metavar="ID")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore the tenants one by one; stop after several failures of the same kind in a row."""
        progress = self.start_progress(options)
        waiting = list(dict.fromkeys(options["tenants"]))
        progress.start(len(waiting), "tenants")
        counts, streak = {"restored": 0, "failed": 0}, FailureStreak()
        with stop_on_signals() as stopping:
            while waiting and not stopping.is_set():
                tenant_id = waiting.pop(0)
                problem, kind = _restore(tenant_id)
                counts["failed" if problem else "restored"] += 1
                progress.note(f"tenant {tenant_id}: {problem or 'restored'}")
                progress.advance()
                try:
                    streak.add(f"tenant {tenant_id}", kind=kind, message=problem)
                except FailedAlike as failure:
                    progress.note(str(failure))
                    break
        progress.finish({**counts, "not_tried": len(waiting)})
        if counts["failed"] or waiting:
            raise CommandError(
                f"Tenants: {counts['failed']} not restored, {len(waiting)} not tried; the others are"
                " restored. The lines above say why. Remove the cause and run the command again for these"
                " tenants."
            )


def _restore(tenant_id: int) -> tuple[str, str]:
    """Restore the tenant. Return why it failed, and the kind of an error that may affect other tenants."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        return "There is no such tenant.", ""
    if tenant.clerk_org_id is None or tenant.deleted_at is None:
        return "It is not recorded as deleted in Clerk.", ""
    try:
        restored = sync_one_organization(tenant.clerk_org_id)
    except (ClerkError, TenantError) as error:
        return str(error), type(error).__name__ if isinstance(error, ClerkError) else ""
    except Exception as error:  # one tenant must not stop the others
        logger.warning("Tenant %s was not restored: %s", tenant_id, error)
        connection.close_if_unusable_or_obsolete()
        return f"{type(error).__name__}: {error}", type(error).__name__
    if restored.deleted_at is not None:
        return f"Clerk has no organization {tenant.clerk_org_id}. Nothing was changed.", ""
    return "", ""
