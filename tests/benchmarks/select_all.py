"""Starting a batch for all tenants, and reading its outcomes: memory and time for any number of tenants.

Baseline: what an admin action does with a queryset that it reads. Floor: the bare INSERT of the ids.
"""

import argparse
import gc
import tracemalloc
from collections import deque
from collections.abc import Callable

from django.db import connection
from django.db.models import QuerySet
from django.test import override_settings

from tenants.batches import jobs
from tenants.batches.run import start
from tenants.batches.steps import STEPS
from tenants.models import SyncRun, SyncRunSlice, Tenant
from tenants.runs import outcomes
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Measure, seconds_of, take_turns

WRITES = True

FEW = 10_000

FILL = "INSERT INTO tenants (name) SELECT 'Tenant ' || number FROM generate_series(1, %s) AS number"

BARE = """
INSERT INTO sync_run_slices (run_id, part, number, arguments, broken, outcomes)
SELECT %s, 'bare', number, jsonb_build_object('ids', jsonb_agg(id)), false, '{}'
FROM (SELECT id, id / %s AS number FROM tenants) AS placed GROUP BY number
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--tenants", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)


def run(arguments: argparse.Namespace) -> Report:
    """Start a batch for few and for all tenants, and read the outcomes of all items."""
    if arguments.quick:
        arguments.tenants, arguments.rounds = 2 * FEW, 1
    _execute(FILL, arguments.tenants)
    few = Tenant.objects.filter(pk__in=Tenant.objects.order_by("pk").values("pk")[:FEW])
    every = Tenant.objects.all()
    report = Report()
    all_of = f"{arguments.tenants:,}"

    def memory(call: Callable[[], object]) -> Measure:
        return lambda: _peak(call)

    ways = {
        f"start, {all_of} tenants": memory(lambda: _start(every)),
        f"start, {FEW:,} tenants": memory(lambda: _start(few)),
        "read the queryset": memory(lambda: list(every.all())),
    }
    turns = take_turns(ways, rounds=arguments.rounds, warm_up=1)
    report.compare("memory of starting", turns, unit="MB", scale=1e-6)
    larger = turns.ratio(f"start, {all_of} tenants", f"start, {FEW:,} tenants").median
    report.require("memory of starting: at most 1.3 times that for 10,000 tenants", larger <= 1.3)

    large, small = _start(every), _start(few)
    ways = {
        f"outcomes of {all_of}": memory(lambda: deque(outcomes.iterate(large), maxlen=0)),
        f"outcomes of {FEW:,}": memory(lambda: deque(outcomes.iterate(small), maxlen=0)),
    }
    turns = take_turns(ways, rounds=arguments.rounds, warm_up=0)
    report.compare("memory of the report", turns, unit="MB", scale=1e-6)
    larger = turns.ratio(f"outcomes of {all_of}", f"outcomes of {FEW:,}").median
    report.require("memory of the report: at most 1.2 times that of 10,000 outcomes", larger <= 1.2)

    ways = {"start": seconds_of(lambda: _start(every)), "bare INSERT": seconds_of(_insert_bare)}
    turns = take_turns(ways, rounds=arguments.rounds, warm_up=0)
    report.compare(f"time of starting, {all_of} tenants", turns, unit="s")
    return report


def _start(tenants: QuerySet[Tenant]) -> SyncRun:
    return start(STEPS["suspend"], tenants, acting_user=None)


def _insert_bare() -> None:
    last = SyncRun.objects.values_list("pk", flat=True)[0]
    SyncRunSlice.objects.filter(part="bare").delete()
    _execute(BARE, last, jobs.SLICE)


def _peak(call: Callable[[], object]) -> float:
    """Return the largest number of bytes that Python held during the call, beyond those before it."""
    gc.collect()
    # With DEBUG, Django keeps the statements of a request in memory.
    with override_settings(DEBUG=False):
        tracemalloc.start()
        try:
            call()
            return float(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()


def _execute(statement: str, *parameters: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
