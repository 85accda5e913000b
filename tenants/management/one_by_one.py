"""Change the tenants that the arguments of a command name, one by one."""

import logging
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.db import connection

from clerk_integration.exceptions import ClerkError
from clerk_integration.management.arguments import positive
from clerk_integration.management.base import DatabaseCommand
from tenants.exceptions import TenantError, UnknownTenants
from tenants.management.interrupts import stop_on_signals
from tenants.models import Tenant
from tenants.runs.failures import FailedAlike, FailureStreak

logger = logging.getLogger(__name__)


class OneByOneCommand(DatabaseCommand):
    """Calls `change` for each tenant; exits with code 1 if a tenant failed or was not tried.

    A tenant that fails is named, and the others are done. Five failures of the same kind in a row stop the
    command, because the next tenants would fail, too.
    """

    results: ClassVar[tuple[str, ...]]
    """The results that `change` returns. The first means that the tenant was changed."""

    def change(self, tenant: Tenant) -> tuple[str, str]:
        """Change the tenant; return the result, and what happened. An exception fails this tenant only."""
        raise NotImplementedError

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("tenants", type=positive, nargs="+", metavar="ID", help="ids of tenants")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Change the tenants; raise CommandError before the first change if an id is unknown."""
        progress = self.start_progress(options)
        waiting = _tenants(options["tenants"])
        progress.start(len(waiting), "tenants")
        counts, streak = dict.fromkeys((*self.results, "failed"), 0), FailureStreak()
        with stop_on_signals() as stopping:
            while waiting and not stopping.is_set():
                tenant = waiting.pop(0)
                result, line, kind = self._change(tenant)
                counts[result] += 1
                progress.note(f"tenant {tenant.pk}: {line}")
                progress.advance()
                try:
                    streak.add(f"tenant {tenant.pk}", kind=kind, message=line)
                except FailedAlike as failure:
                    progress.note(str(failure))
                    break
        progress.finish({**counts, "not_tried": len(waiting)})
        if counts["failed"] or waiting:
            changed = self.results[0]
            raise CommandError(
                f"Tenants: {counts['failed']} not {changed}, {len(waiting)} not tried; the others are done."
                " The lines above say why. Remove the cause and run the command again for these tenants."
            )

    def _change(self, tenant: Tenant) -> tuple[str, str, str]:
        """Change one tenant; return its result, a message, and the kind of the failure.

        The kind is empty unless the failure may affect other tenants, too, such as an outage of Clerk.
        """
        try:
            return *self.change(tenant), ""
        except TenantError as error:
            return "failed", str(error), ""
        except ClerkError as error:
            return "failed", str(error), type(error).__name__
        except Exception as error:  # one tenant must not stop the others
            logger.warning("Tenant %s was not %s: %s", tenant.pk, self.results[0], error)
            connection.close_if_unusable_or_obsolete()
            return "failed", f"{type(error).__name__}: {error}", type(error).__name__


def _tenants(ids: list[int]) -> list[Tenant]:
    """Return the tenants with these ids in their order, each once; raise CommandError if one is unknown."""
    found = Tenant.objects.in_bulk(ids)
    unknown = [tenant_id for tenant_id in ids if tenant_id not in found]
    if unknown:
        raise CommandError(f"{UnknownTenants(unknown)} Nothing was changed.")
    return [found[tenant_id] for tenant_id in dict.fromkeys(ids)]
