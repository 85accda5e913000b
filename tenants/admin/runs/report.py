"""Show the outcomes of a run: in the table of its page, and in its report."""

from collections.abc import Iterator
from typing import Any

from tenants.models import SyncRun, Tenant
from tenants.runs import outcomes
from tenants.templatetags.tenants_admin import badge

RESULTS = {
    "done": "good",
    "created": "good",
    "adopted": "good",
    "failed": "bad",
    "conflict": "bad",
    outcomes.DIFFERENCE: "warning",
}
"""The badge of each result; other results are neutral."""

LABELS = {"": "not tried", "not_applicable": "skipped"}
"""The texts of results that are shown under another name."""

REPORT_COLUMNS = ("item", "result", "reason")


def result_choices(run: SyncRun) -> list[tuple[str, str]]:
    """Return the values and labels of the filter by result."""
    if run.kind == SyncRun.Kind.BATCH:
        return [("failed", "Failed"), ("done", "Done"), ("not_applicable", "Skipped"), ("", "Not tried")]
    if run.kind == SyncRun.Kind.MIGRATION:
        named = ("failed", "conflict", "created", "adopted", "skipped")
        return [*((name, name.capitalize()) for name in named), ("", "Not tried")]
    return []


def table_rows(run: SyncRun, found: list[outcomes.Outcome], *, named: bool) -> list[dict[str, Any]]:
    """Return the outcomes for the template, if `named` with the tenants that they are about.

    Run one statement.
    """
    items = [outcome.item for outcome in found if named]
    if run.kind == SyncRun.Kind.DRY_RUN:
        tenants: dict[str, Tenant] = {
            str(tenant.clerk_org_id): tenant for tenant in Tenant.objects.filter(clerk_org_id__in=items)
        }
    else:
        tenants = {str(tenant.pk): tenant for tenant in Tenant.objects.filter(pk__in=items)}
    return [
        {
            "item": outcome.item,
            "tenant": tenants.get(outcome.item),
            "badge": badge(
                LABELS.get(outcome.result, outcome.result), RESULTS.get(outcome.result, "neutral")
            ),
            "reason": outcome.reason,
        }
        for outcome in found
    ]


def report_rows(run: SyncRun) -> Iterator[tuple[str, str, str]]:
    """Yield the outcome of each item; for a run without items, the lines of its error."""
    for outcome in outcomes.iterate(run):
        yield outcome.item, outcome.result or "not tried", outcome.reason
    if not run.slices.exists():
        for line in run.error.splitlines():
            yield "", "", line
