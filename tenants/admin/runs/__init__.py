"""The admin pages of runs: the list, one run with its progress and outcomes, and starting a run."""

from tenants.admin.runs.pages import SyncRunAdmin

__all__ = ["SyncRunAdmin"]
