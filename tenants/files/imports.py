"""Import tenants and members of an older system from a file.

The whole file is checked before the first row is written. Then the rows are written in batches, each in
its own transaction, so that locks are held only for one batch. `external_id` identifies a tenant: it is the
tenant's key in the older system. An import adds the missing tenants and members and changes nothing else:
a tenant that was renamed, suspended or linked since stays unchanged. To complete an import that was
stopped, run the import again.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import IO, Any, NamedTuple

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from clerk_integration.exceptions import InvalidClerkId
from clerk_integration.naming import name_problem, slug_problem
from clerk_integration.wire.ids import validate_user_id
from tenants.exceptions import InvalidFile
from tenants.files.parsing import MAX_SHOWN, Problems, Row, counting, csv_rows, json_rows, opened
from tenants.models import SyncRun, Tenant
from tenants.querysets import LEGACY_ADMIN_ROLES
from tenants.runs.leases import held_runs
from tenants.runs.records import recorded_run
from tenants.sql import execute, query

REQUIRED = {"external_id", "name"}
OPTIONAL = {"slug", "status", "user_id", "role"}
MEMBERS = "members"
"""Key of the members in a JSON line: a list of objects with `user_id` and `role`."""

STATUSES = tuple(Tenant.Status.values)
LEGACY_ROLES = (*LEGACY_ADMIN_ROLES, "member")
CLERK_ROLE_PREFIX = "org:"
MAX_KEY_LENGTH = 255

_SCIENTIFIC = re.compile(r"-?\d([.,]\d+)?E\+\d{2,3}")
"""How a spreadsheet writes a long number: 1.23457E+15."""

FindProblem = Callable[[str], str | None]
"""Returns the problem of a value; None if the value is valid."""

BATCH = 1000
"""Number of lines that are written in one transaction."""


class Line(NamedTuple):
    """One line of the file: a tenant, and one of its members if `user_id` is given."""

    line: int
    external_id: str
    name: str
    slug: str | None
    status: str
    user_id: str | None = None
    role: str | None = None


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


def check_file(path: Path, *, advance: Callable[[int], None]) -> Imported:
    """Check a `.csv` or `.jsonl` file and count what importing it would create; write nothing.

    CSV has one line for each member, with the columns external_id and name, and optionally slug,
    status, user_id and role; a tenant without members has one line. JSONL has one line for each tenant
    with the same keys and `members`, a list of objects with user_id and role. `advance` is called with
    the number of lines read. Raise InvalidFile, which names the wrong lines.
    """
    problems = Problems()
    with transaction.atomic():
        execute(STAGE)
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY staged_lines ({COLUMNS}) FROM STDIN") as copy,
        ):
            for line in _lines(path, problems, advance):
                copy.write_row(line)
        execute("ANALYZE staged_lines")
        _compare_lines(problems)
        problems.raise_any()
        [counts] = query(COUNT)
        transaction.set_rollback(True)
    return Imported(*counts)


def import_tenants(path: Path, *, stopping: Event, advance: Callable[[int], None]) -> Imported:
    """Check a file as `check_file` does, then import it in batches.

    Write the missing `tenants` and `memberships`, and a row in `sync_runs`. Members of linked tenants
    belong to Clerk and are not written. When `stopping` is set, finish the current batch and record the
    run as interrupted. Raise InvalidFile before anything is written, or if the file changes meanwhile.
    """
    counts = check_file(path, advance=lambda lines: None)
    counts.tenants_created = counts.members_created = 0
    with recorded_run(SyncRun.Kind.IMPORT) as lease:
        run = held_runs(lease.run)
        problems = Problems()
        lines = _lines(path, problems, advance)
        while (batch := list(islice(lines, BATCH))) and not stopping.is_set():
            lease.check()
            tenants, members = _write(batch)
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


def _write(lines: Sequence[Line]) -> tuple[int, int]:
    """Write the missing tenants and members of some lines; return the number of each."""
    batch = json.dumps([line._asdict() for line in lines])
    with transaction.atomic():
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


def _lines(path: Path, problems: Problems, advance: Callable[[int], None]) -> Iterator[Line]:
    with opened(path) as file:
        rows, read = _reader(path, file, problems)
        for row in counting(rows, advance):
            try:
                yield from list(read(row))
            except ValueError as error:
                problems.add(row[0], str(error))


def _reader(
    path: Path, file: IO[str], problems: Problems
) -> tuple[Iterator[Row], Callable[[Row], Iterator[Line]]]:
    match path.suffix.lower():
        case ".csv":
            return csv_rows(file, required=REQUIRED, optional=OPTIONAL, problems=problems), _read_csv
        case ".jsonl":
            return json_rows(file, problems), _read_json
        case _:
            raise InvalidFile(f"{path} is neither .csv nor .jsonl. Nothing was changed.")


def _read_csv(row: Row) -> Iterator[Line]:
    line, values = row
    given = {name: value.strip() for name, value in values.items()}
    if given.get("user_id") or given.get("role"):
        yield Line(line, *_tenant(given), *_member(given))
    else:
        yield Line(line, *_tenant(given))


def _read_json(row: Row) -> Iterator[Line]:
    line, values = row
    unknown = sorted(set(values) - REQUIRED - {"slug", "status", MEMBERS})
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    members = values.get(MEMBERS, [])
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise ValueError("members is not a list of objects")
    tenant = _tenant(values)
    # One line for the tenant itself, so that a second line of the same tenant is found as a repetition.
    yield Line(line, *tenant)
    for member in members:
        yield Line(line, *tenant, *_member(member))


def _key_problem(value: str) -> str | None:
    if len(value) > MAX_KEY_LENGTH:
        return f"has {len(value)} characters; at most {MAX_KEY_LENGTH} are allowed"
    return None if value.isprintable() else "contains characters that cannot be printed"


def _tenant(given: Mapping[str, Any]) -> tuple[str, str, str | None, str]:
    status = _text(given, "status") or Tenant.Status.ACTIVE.value
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is not one of {', '.join(STATUSES)}")
    external_id = _required(given, "external_id")
    if _SCIENTIFIC.fullmatch(external_id):
        raise ValueError(
            f"external_id {external_id!r} is a number that a spreadsheet has rounded; format the column as"
            " text and export the file again"
        )
    name, slug = _required(given, "name", problem=name_problem), _text(given, "slug", problem=slug_problem)
    return external_id, name, slug or None, status


def _member(given: Mapping[str, Any]) -> tuple[str, str]:
    role = _required(given, "role")
    if role not in LEGACY_ROLES and not role.startswith(CLERK_ROLE_PREFIX):
        raise ValueError(f"role {role!r} is not one of {', '.join(LEGACY_ROLES)} or a Clerk role (org:...)")
    user_id = _required(given, "user_id")
    try:
        return validate_user_id(user_id), role
    except InvalidClerkId:
        raise ValueError(f"user_id {user_id!r} is not the id of a Clerk user (user_...)") from None


def _required(given: Mapping[str, Any], key: str, *, problem: FindProblem = _key_problem) -> str:
    value = _text(given, key, problem=problem)
    if not value:
        raise ValueError(f"{key} is missing")
    return value


def _text(given: Mapping[str, Any], key: str, *, problem: FindProblem = _key_problem) -> str:
    """Return the string of `key`; empty if there is none. Raise ValueError if the value has a problem."""
    value = given.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a string")  # noqa: TRY004  (an error in the file)
    found = problem(value.strip()) if value.strip() else None
    if found is not None:
        raise ValueError(f"{key} {found}")
    return value.strip()
