"""Count the tenants and the work on them, for the pages and metrics that show many numbers together.

Each function runs one statement and calls no API. The counts are exact up to LARGE rows, from indexes.
Larger counts are the database's estimates, so that a statement takes the same time for any table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from django.db import connection
from django.db.models import F, QuerySet, Value

from clerk_integration.models import ClerkState, LearnedInstance, WebhookDelivery
from tenants.models import SyncRun, Tenant
from tenants.monitoring import querysets
from tenants.sql import LARGE, Sql, json_array

Row = TypeVar("Row")

ESTIMATES = """(
    SELECT json_object_agg(relname, reltuples::bigint) FROM pg_class
    WHERE oid = ANY (ARRAY[to_regclass('tenants'), to_regclass('tenants_legacy'),
        to_regclass('tenants_suspended'), to_regclass('tenants_deactivated'),
        to_regclass('tenants_deleted')]))"""
"""The number of rows of the table and of its partial indexes, as of the last VACUUM or ANALYZE."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, which may be an estimate (`about`) or a lower limit (`more than`)."""

    number: int
    precision: Literal["exactly", "about", "more than"] = "exactly"

    def __str__(self) -> str:
        return f"{self.number:,}" if self.precision == "exactly" else f"{self.precision} {self.number:,}"


@dataclass(frozen=True, slots=True)
class TenantNumbers:
    """How many tenants are in each state; a tenant may be in several."""

    total: Count
    linked: Count
    """With an organization, also if it is deleted in Clerk."""
    legacy: Count
    suspended: Count
    deactivated: Count
    deleted: Count
    """Deleted in Clerk; these are also deactivated."""
    never_synced: Count
    out_of_date: Count
    drifted: Count
    """Different from Clerk in the last dry run, and not synced since."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The amount of due work, and since when the oldest waits."""

    count: Count
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class RunTimes:
    """A run and its times."""

    id: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class DryRun:
    """The last completed dry run with memberships, and the number of records that differed from Clerk."""

    id: int
    started_at: datetime
    missing_from_mirror: int
    differing: int
    missing_from_clerk: int


@dataclass(frozen=True, slots=True)
class Reachability:
    """The last check whether Clerk answers. `error` is empty if it does, since `changed_at`."""

    checked_at: datetime
    changed_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class WorkNumbers:
    """The state of deliveries, jobs, runs and creations, and of the connection to Clerk."""

    failed_deliveries: Count
    received_deliveries: Count
    due_deliveries: Waiting
    due_jobs: Waiting
    failed_jobs: Count
    live_workers: int
    running_runs: Count
    failed_runs: Count
    unresolved_creations: Count
    last_complete_sync: RunTimes | None
    """The last completed full sync of organizations and memberships."""
    last_dry_run: DryRun | None
    instance_id: str | None
    """The Clerk instance of this database; None before the first call to Clerk."""
    clerk: Reachability | None
    """None before the first check by a worker."""


def tenant_numbers() -> TenantNumbers:
    """Count the tenants by state. One statement, which reads only indexes."""
    # The order names the index: without it, PostgreSQL would read the first rows of the table.
    tenants = Tenant.objects.order_by("pk")
    found = _read(
        total=_counted(tenants),
        linked=_counted(tenants.filter(clerk_org_id__isnull=False).order_by("clerk_org_id")),
        legacy=_counted(tenants.filter(clerk_org_id=None)),
        suspended=_counted(tenants.filter(status=Tenant.Status.SUSPENDED)),
        deactivated=_counted(tenants.filter(status=Tenant.Status.DEACTIVATED)),
        deleted=_counted(tenants.filter(deleted_at__isnull=False)),
        never_synced=_counted(tenants.never_synced().order_by("last_synced_at")),
        out_of_date=_counted(tenants.out_of_date().order_by("last_synced_at")),
        drifted=_counted(tenants.drifted().order_by()),
        estimates=(ESTIMATES, ()),
    )
    estimates = found.pop("estimates")
    total, legacy = estimates["tenants"], estimates["tenants_legacy"]
    large = {
        "total": total,
        "linked": total - legacy,
        "legacy": legacy,
        "suspended": estimates["tenants_suspended"],
        "deactivated": estimates["tenants_deactivated"],
        "deleted": estimates["tenants_deleted"],
    }
    return TenantNumbers(**{name: _count(number, large.get(name, 0)) for name, number in found.items()})


def work_numbers() -> WorkNumbers:
    """Count deliveries, jobs, runs and creations, and read the state of Clerk. One statement."""
    runs, deliveries = SyncRun.objects.all(), WebhookDelivery.objects.all()
    found = _read(
        failed_deliveries=_counted(deliveries.filter(status=WebhookDelivery.Status.FAILED)),
        received_deliveries=_counted(deliveries.filter(status=WebhookDelivery.Status.RECEIVED)),
        failed_jobs=_counted(querysets.failed_jobs()),
        running_runs=_counted(runs.filter(state=SyncRun.State.RUNNING)),
        failed_runs=_counted(runs.filter(state=SyncRun.State.FAILED)),
        unresolved_creations=_counted(querysets.unresolved_creations()),
        live_workers=_counted(querysets.live_workers()),
        due_deliveries=_oldest(querysets.due_deliveries()),
        due_jobs=_oldest(querysets.due_jobs()),
        sync=_first(
            querysets.complete_runs(SyncRun.Kind.FULL_SYNC).values("id", "started_at", "finished_at")
        ),
        dry_run=_first(
            querysets.complete_runs(SyncRun.Kind.DRY_RUN).values(
                "id",
                "started_at",
                missing_from_mirror=F("created"),
                differing=F("updated"),
                missing_from_clerk=F("retired"),
            )
        ),
        instance=_first(LearnedInstance.objects.values("instance_id")),
        clerk=_first(ClerkState.objects.values("checked_at", "changed_at", "error")),
    )
    return WorkNumbers(
        failed_deliveries=_count(found["failed_deliveries"]),
        received_deliveries=_count(found["received_deliveries"]),
        due_deliveries=_waiting(found["due_deliveries"]),
        due_jobs=_waiting(found["due_jobs"]),
        failed_jobs=_count(found["failed_jobs"]),
        live_workers=found["live_workers"],
        running_runs=_count(found["running_runs"]),
        failed_runs=_count(found["failed_runs"]),
        unresolved_creations=_count(found["unresolved_creations"]),
        last_complete_sync=_one(RunTimes, found["sync"], "started_at", "finished_at"),
        last_dry_run=_one(DryRun, found["dry_run"], "started_at"),
        instance_id=next((row["instance_id"] for row in found["instance"]), None),
        clerk=_one(Reachability, found["clerk"], "checked_at", "changed_at"),
    )


def _read(**expressions: Sql) -> dict[str, Any]:
    """Return the value of each expression. One statement."""
    sql = ", ".join(expression for expression, _ in expressions.values())
    parameters = [parameter for _, given in expressions.values() for parameter in given]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", parameters)
        return dict(zip(expressions, cursor.fetchone(), strict=True))


def _counted(queryset: QuerySet[Any]) -> Sql:
    """Return an expression for the number of rows, up to LARGE + 1. It reads no column of the table."""
    rows = queryset.values(one=Value(1))[: LARGE + 1]
    sql, parameters = rows.query.sql_with_params()
    return f"(SELECT count(*) FROM ({sql}) AS counted)", parameters


def _oldest(queryset: QuerySet[Any, Any]) -> Sql:
    """Return an expression for the number of rows, up to LARGE + 1, and the earliest `since` of these."""
    sql, parameters = queryset.values("since")[: LARGE + 1].query.sql_with_params()
    counted = f"SELECT json_build_object('count', count(*), 'oldest', min(since)) FROM ({sql}) AS due"
    return f"({counted})", parameters


def _first(queryset: QuerySet[Any, Any]) -> Sql:
    """Return an SQL expression for a JSON array that contains the first row, or is empty."""
    return json_array(queryset[:1])


def _count(number: int, estimate: int = 0) -> Count:
    """Return the number; if more than LARGE rows were found, the estimate, unless it is too low."""
    if number <= LARGE:
        return Count(number)
    return Count(estimate, "about") if estimate > LARGE else Count(LARGE, "more than")


def _waiting(row: Mapping[str, Any]) -> Waiting:
    return Waiting(**{**_with_times(row, "oldest"), "count": _count(row["count"])})


def _one(build: Callable[..., Row], rows: list[dict[str, Any]], *times: str) -> Row | None:
    """Return the first of the JSON rows; None if there is none."""
    return next((build(**_with_times(row, *times)) for row in rows), None)


def _with_times(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the JSON row with the named times parsed."""
    times = {name: row[name] and datetime.fromisoformat(row[name]) for name in names}
    return {**row, **times}
