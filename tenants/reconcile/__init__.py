"""Compare the mirror with Clerk: the full sync, its dry run, and creations whose reply was lost."""

from tenants.reconcile.creations import resolve_creations
from tenants.reconcile.differences import Comparison, Difference, compare_with_clerk
from tenants.reconcile.dry_run import dry_run
from tenants.reconcile.full_sync import DEFAULT_MAX_RETIRE_PERCENT, run_full_sync
from tenants.reconcile.named import sync_one_organization, sync_one_user

__all__ = [
    "DEFAULT_MAX_RETIRE_PERCENT",
    "Comparison",
    "Difference",
    "compare_with_clerk",
    "dry_run",
    "resolve_creations",
    "run_full_sync",
    "sync_one_organization",
    "sync_one_user",
]
