"""The caller's list beside a bare DRF ModelSerializer view of the same rows, at two sizes of the table."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import quantiles

from django.db import connection

from tests.benchmarks._bare_lists import BARE_LIST, USER
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Turns
from tests.children import PROJECT, child_environment

LISTED = 50
SIZES = (1_000, 100_000)
TARGET = 1.5
FLAT = 1.25

CLERK = {"apiUrl": "http://127.0.0.1:9/v1", "secretKey": "sk_test_none", "instanceId": "ins_none"}
"""Nothing listens there: a fresh list asks no Clerk."""

POPULATE = """
TRUNCATE tenants, memberships, user_syncs, clerk_learned_instance CASCADE;
INSERT INTO tenants (clerk_org_id, name, slug, logo_url, clerk_metadata, clerk_created_at, clerk_updated_at,
                     status, last_synced_at)
SELECT 'org_' || md5(n::text), initcap(left(md5('a' || n), 7)) || ' ' || initcap(left(md5('b' || n), 8))
           || ' ' || n, 'tenant-' || n, 'https://img.example.com/' || md5(n::text) || '.png',
       jsonb_build_object('plan', 'team', 'seats', n, 'flags', jsonb_build_array('sso', 'audit')),
       1700000000000 + n, 1700000000000 + n, CASE WHEN n %% 50 = 7 THEN 'suspended' ELSE 'active' END, now()
FROM generate_series(1, %(size)s) AS n;
INSERT INTO memberships (tenant_id, clerk_user_id, clerk_membership_id, role, clerk_created_at,
                         clerk_updated_at)
SELECT id, 'user_' || id, 'orgmem_' || id, 'org:admin', clerk_created_at, clerk_updated_at FROM tenants
UNION ALL
SELECT id, %(user)s, 'orgmem_mine_' || id, 'org:member', clerk_created_at, clerk_updated_at
FROM (SELECT * FROM tenants WHERE status = 'active' ORDER BY md5(id::text) LIMIT %(listed)s) AS mine;
INSERT INTO user_syncs (clerk_user_id, synced_at) VALUES (%(user)s, clock_timestamp())
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--rounds", type=int, default=300, help="requests for each of the ways and sizes")


def run(arguments: argparse.Namespace) -> Report:
    """Measure at each size in a child process of its own, with the settings of production."""
    report = Report()
    growth: dict[str, list[float]] = {"list": [], "bare view": []}
    for size in SIZES:
        populate(size, LISTED)
        turns = measure(
            {"list": "/api/v1/tenants/me/get-tenants", "bare view": BARE_LIST},
            rounds=20 if arguments.quick else arguments.rounds,
        )
        report.compare(f"{LISTED} of {size:,} tenants", turns, unit="ms", scale=1000)
        for way, found in growth.items():
            found.append(p95(turns.samples[way]))
    list_growth, bare_growth = (big / small for small, big in growth.values())
    report.figures["p95_ms"] = {way: [round(one * 1000, 2) for one in found] for way, found in growth.items()}
    faster = 1 / turns.ratio("list", "bare view").median
    report.require(f"at least {TARGET} times as many a second as the bare view", faster >= TARGET)
    # Other load on the machine may differ between the two sizes; it meets the bare view alike.
    report.require(
        f"the p95 grows by at most {FLAT} times the growth of the bare view's",
        list_growth <= FLAT * bare_growth,
    )
    return report


def p95(samples: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return quantiles(samples, n=20)[-1]


def populate(size: int, listed: int) -> None:
    """Fill the tables with `size` tenants, `listed` of them the measured user's, who is fresh."""
    with connection.cursor() as cursor:
        cursor.execute(POPULATE, {"size": size, "listed": listed, "user": USER})
        cursor.execute("VACUUM ANALYZE")


def measure(paths: Mapping[str, str], *, rounds: int, as_staff: bool = False) -> Turns:
    """Return the seconds of each request, by the name of its path; the first path is ours."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks._requests_child"],
        cwd=PROJECT,
        env={
            **child_environment(CLERK),
            "CLERK_SYNC_MAX_AGE_SECONDS": "86400",  # The user stays fresh.
            "DEBUG": "false",
            "PYTHONWARNINGS": "ignore:No directory at",  # no static files were collected
        },
        input=json.dumps({"paths": paths, "rounds": rounds, "as_staff": as_staff}).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return Turns(json.loads(child.stdout))
