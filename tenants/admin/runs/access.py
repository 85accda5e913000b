"""Decide which runs staff may start, cancel and resume."""

from django.http import HttpRequest

from tenants.batches.steps import STEPS
from tenants.models import SyncRun

Kind = SyncRun.Kind

PERMISSIONS = {
    Kind.FULL_SYNC: "tenants.sync_tenant",
    Kind.DRY_RUN: "tenants.sync_tenant",
    Kind.MIGRATION: "tenants.migrate_tenant",
    Kind.IMPORT: "tenants.migrate_tenant",
    Kind.LINK: "tenants.link_tenant",
}
"""The permission for the runs of each kind; a batch needs that of its step."""


def may_control(request: HttpRequest, run: SyncRun) -> bool:
    """Return whether the user may cancel and resume the run."""
    if run.kind == Kind.BATCH:
        step = STEPS.get(run.cursor.get("step", ""))
        return step is not None and request.user.has_perm(step.permission)
    return request.user.has_perm(PERMISSIONS[Kind(run.kind)])
