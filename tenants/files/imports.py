"""Import tenants and members of an older system from a file.

The whole file is checked before the first row is written. Then the rows are written in batches, each in
its own transaction, so that locks are held only for one batch. `external_id` identifies a tenant: it is the
tenant's key in the older system. An import adds the missing tenants and members and changes nothing else:
a tenant that was renamed, suspended or linked since stays unchanged. To complete an import that was
stopped, run the import again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from tenants.exceptions import InvalidFile, SyncInterrupted
from tenants.files.import_lines import Line, read_lines
from tenants.files.parsing import MAX_SHOWN, Problems
from tenants.history import change_by
from tenants.models import SyncRun
from tenants.runs.leases import held_runs
from tenants.runs.records import recorded_run
from tenants.sql import execute, query

BATCH = 1000
"""Number of lines that are written in one transaction."""


COLUMNS = ", ".join(Line._fields)

STAGE = """
CREATE TEMPORARY TABLE staged_lines (
    line bigint NOT NULL, external_id text NOT NULL, name text NOT NULL, slug text, status text NOT NULL,
    user_id text, role text) ON COMMIT DROP
"""

REPEATED = """
SELECT line, first, count(*) OVER ()
FROM (SELECT line, user_id,
             first_value(line) OVER (PARTITION BY external_id, user_id ORDER BY line) AS first,
             row_number() OVER (PARTITION BY external_id, user_id ORDER BY line) AS place
      FROM staged_lines) AS numbered
WHERE place > 1 ORDER BY line LIMIT %(shown)s
"""

CONTRADICTING = """
SELECT line, first, count(*) OVER ()
FROM (SELECT line, (name, slug, status) AS given,
             first_value((name, slug, status)) OVER tenant AS given_first,
             first_value(line) OVER tenant AS first
      FROM staged_lines WINDOW tenant AS (PARTITION BY external_id ORDER BY line)) AS numbered
WHERE given IS DISTINCT FROM given_first ORDER BY line LIMIT %(shown)s
"""

COUNT = """
WITH given AS (
    SELECT DISTINCT ON (external_id) external_id, name, slug, status FROM staged_lines
    ORDER BY external_id, line)
SELECT
    (SELECT count(*) FROM given),
    (SELECT count(user_id) FROM staged_lines),
    (SELECT count(*) FROM given WHERE NOT EXISTS (
        SELECT FROM tenants WHERE tenants.external_id = given.external_id)),
    (SELECT count(*) FROM staged_lines LEFT JOIN tenants USING (external_id)
        WHERE user_id IS NOT NULL AND clerk_org_id IS NULL AND NOT EXISTS (
            SELECT FROM memberships WHERE tenant_id = tenants.id AND clerk_user_id = user_id)),
    (SELECT count(*) FROM given JOIN tenants USING (external_id)
        WHERE (tenants.name, tenants.slug, tenants.status)
            IS DISTINCT FROM (given.name, given.slug, given.status))
"""


GIVEN = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(lines)s::jsonb) AS line(
        line bigint, external_id text, name text, slug text, status text, user_id text, role text)),
"""

INSERT_TENANTS = f"""
{GIVEN}
inserted AS (
    INSERT INTO tenants (external_id, name, slug, status)
    SELECT DISTINCT ON (external_id) external_id, name, slug, status FROM given ORDER BY external_id, line
    ON CONFLICT (external_id) DO NOTHING
    RETURNING id)
SELECT count(*) FROM inserted
"""

# The lock blocks a link of the tenants until the commit: Clerk owns the members of a linked tenant.
INSERT_MEMBERS = f"""
{GIVEN}
legacy AS (
    SELECT id, external_id FROM tenants
    WHERE clerk_org_id IS NULL AND external_id IN (SELECT external_id FROM given)
    ORDER BY id FOR SHARE),
inserted AS (
    INSERT INTO memberships (tenant_id, clerk_user_id, role)
    SELECT legacy.id, given.user_id, given.role FROM given JOIN legacy USING (external_id)
    WHERE given.user_id IS NOT NULL ORDER BY legacy.id, given.user_id
    ON CONFLICT (tenant_id, clerk_user_id) DO NOTHING
    RETURNING id)
SELECT count(*) FROM inserted
"""


@dataclass(slots=True)
class Imported:
    """How many tenants and members the file has, and how many of them are new.

    `differs_left_alone` counts the tenants that exist with another name, slug or status. `complete` is
    false if the import was stopped.
    """

    tenants: int
    members: int
    tenants_created: int
    members_created: int
    differs_left_alone: int
    complete: bool = True


def check_file(path: Path, *, advance: Callable[[int], None], stopping: Event | None = None) -> Imported:
    """Check a `.csv` or `.jsonl` file and count what importing it would create; write nothing.

    CSV has one line for each member, with the columns external_id and name, and optionally slug,
    status, user_id and role; a tenant without members has one line. JSONL has one line for each tenant
    with the same keys and `members`, a list of objects with user_id and role. `advance` is called with
    the number of lines read. Raise InvalidFile, which names the wrong lines, and SyncInterrupted when
    `stopping` is set.
    """

    def count(lines: int) -> None:
        if stopping is not None and stopping.is_set():
            raise SyncInterrupted("Stopped while the file was checked. Nothing was changed.")
        advance(lines)

    problems = Problems()
    with transaction.atomic():
        execute(STAGE)
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY staged_lines ({COLUMNS}) FROM STDIN") as copy,
        ):
            for line in read_lines(path, problems, count):
                copy.write_row(line)
        execute("ANALYZE staged_lines")
        _compare_lines(problems)
        problems.raise_any()
        [counts] = query(COUNT)
        transaction.set_rollback(True)
    return Imported(*counts)


def import_tenants(
    path: Path,
    *,
    stopping: Event,
    advance: Callable[[int], None],
    acting_user: Any = None,
    checked: Imported | None = None,
) -> Imported:
    """Import a file in batches, attributed to the user or the command.

    `checked` is what `check_file` has returned; without it, check the file first. Write the missing
    `tenants` and `memberships`, and a row in `sync_runs`. Members of linked tenants belong to Clerk and are
    not written. When `stopping` is set, finish the current batch and record the run as interrupted. Raise
    InvalidFile before anything is written, or if the file changes meanwhile, and SyncInterrupted when
    `stopping` is set during the check.
    """
    checked = checked or check_file(path, advance=lambda lines: None, stopping=stopping)
    counts = replace(checked, tenants_created=0, members_created=0)
    with recorded_run(SyncRun.Kind.IMPORT) as lease:
        run = held_runs(lease.run)
        run.update(started_by="" if acting_user is None else acting_user.get_username())
        problems = Problems()
        lines = read_lines(path, problems, advance)
        while (batch := list(islice(lines, BATCH))) and not stopping.is_set():
            lease.check()
            tenants, members = _write(batch, acting_user)
            counts.tenants_created += tenants
            counts.members_created += members
            run.update(created=F("created") + tenants)
        if problems.count:
            raise InvalidFile(f"{path} changed during the import. What was imported is kept; run it again.")
        state = SyncRun.State.INTERRUPTED if batch else SyncRun.State.COMPLETED
        unchanged = 0 if batch else counts.tenants - counts.tenants_created
        run.update(state=state, unchanged=unchanged, finished_at=Now(), lease_expires_at=None)
    counts.complete = not batch
    return counts


def _write(lines: Sequence[Line], acting_user: Any) -> tuple[int, int]:
    """Write the missing tenants and members of some lines; return the number of each."""
    batch = json.dumps([line._asdict() for line in lines])
    with change_by(acting_user):
        [(tenants,)] = query(INSERT_TENANTS, lines=batch)
        [(members,)] = query(INSERT_MEMBERS, lines=batch)
    return tenants, members


def _compare_lines(problems: Problems) -> None:
    """Add the problems between two lines: repetitions and contradictions."""
    for statement, problem in (
        (REPEATED, "repeats line {first}"),
        (CONTRADICTING, "has another name, slug or status than line {first} of the same tenant"),
    ):
        found = query(statement, shown=MAX_SHOWN)
        for line, first, _ in found:
            problems.add(line, problem.format(first=first))
        problems.count += found[0][2] - len(found) if found else 0
