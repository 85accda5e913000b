"""Tenants and members of an older system, whole or not at all.

A file is staged in a temporary table, checked, and merged in one transaction, so that memory stays
bounded and a mistake in its last line leaves nothing behind. The key is `external_id`, the tenant's
key in the older system. An import adds what is missing and changes nothing that is there: a tenant
that was renamed, suspended or linked since stays as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.db import connection, transaction
from django.db.models.functions import Now

from clerk_integration.exceptions import InvalidClerkId
from clerk_integration.wire.ids import validate_user_id
from tenants.exceptions import InvalidFile
from tenants.files.parsing import SHOWN, Problems, Row, counting, csv_rows, json_rows, opened
from tenants.models import SyncRun, Tenant
from tenants.querysets import LEGACY_ADMIN_ROLES
from tenants.sql import execute, query

REQUIRED = {"external_id", "name"}
OPTIONAL = {"slug", "status", "user_id", "role"}
MEMBERS = "members"
"""Key of a JSON line under which a tenant's members stand, as objects of `user_id` and `role`."""

LEGACY_ROLES = (*LEGACY_ADMIN_ROLES, "member")
CLERK_ROLE_PREFIX = "org:"
MAX_KEY_LENGTH = 255
MAX_NAME_LENGTH = 256

Staged = tuple[int, str, str, str | None, str, str | None, str | None]
"""line, external_id, name, slug, status, user_id, role"""

_STAGE = """
CREATE TEMPORARY TABLE staged_lines (
    line bigint NOT NULL, external_id text NOT NULL, name text NOT NULL, slug text, status text NOT NULL,
    user_id text, role text) ON COMMIT DROP
"""
_COPY = "COPY staged_lines (line, external_id, name, slug, status, user_id, role) FROM STDIN"

_REPEATED = """
SELECT line, first, count(*) OVER ()
FROM (SELECT line, user_id,
             first_value(line) OVER (PARTITION BY external_id, user_id ORDER BY line) AS first,
             row_number() OVER (PARTITION BY external_id, user_id ORDER BY line) AS place
      FROM staged_lines) AS numbered
WHERE place > 1 ORDER BY line LIMIT %(shown)s
"""

_CONTRADICTING = """
SELECT line, first, count(*) OVER ()
FROM (SELECT line, (name, slug, status) AS said,
             first_value((name, slug, status)) OVER tenant AS said_first,
             first_value(line) OVER tenant AS first
      FROM staged_lines WINDOW tenant AS (PARTITION BY external_id ORDER BY line)) AS numbered
WHERE said IS DISTINCT FROM said_first ORDER BY line LIMIT %(shown)s
"""

_LOCK_TENANTS = """
WITH locked AS MATERIALIZED (
    SELECT id FROM tenants
    WHERE clerk_org_id IS NULL AND external_id IN (SELECT external_id FROM staged_lines)
    ORDER BY id FOR SHARE)
SELECT count(*) FROM locked
"""

_INSERT_TENANTS = """
WITH inserted AS (
    INSERT INTO tenants (external_id, name, slug, status)
    SELECT DISTINCT ON (external_id) external_id, name, slug, status
    FROM staged_lines ORDER BY external_id, line
    ON CONFLICT (external_id) DO NOTHING
    RETURNING id)
SELECT count(*) FROM inserted
"""

_INSERT_MEMBERS = """
WITH inserted AS (
    INSERT INTO memberships (tenant_id, clerk_user_id, role)
    SELECT tenants.id, staged_lines.user_id, staged_lines.role
    FROM staged_lines JOIN tenants ON tenants.external_id = staged_lines.external_id
    WHERE staged_lines.user_id IS NOT NULL AND tenants.clerk_org_id IS NULL
    ORDER BY tenants.id, staged_lines.user_id
    ON CONFLICT (tenant_id, clerk_user_id) DO NOTHING
    RETURNING id)
SELECT count(*) FROM inserted
"""

_COUNT_DIFFERING = """
SELECT count(*)
FROM (SELECT DISTINCT ON (external_id) external_id, name, slug, status
      FROM staged_lines ORDER BY external_id, line) AS said
JOIN tenants ON tenants.external_id = said.external_id
WHERE (tenants.name, tenants.slug, tenants.status) IS DISTINCT FROM (said.name, said.slug, said.status)
"""

_COUNT = """
SELECT count(DISTINCT external_id), count(user_id) FROM staged_lines
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """How many tenants and members the file holds, and how many of them were new.

    `differs_left_alone` counts the tenants that are there with another name, slug or status.
    """

    tenants: int
    members: int
    tenants_created: int
    members_created: int
    differs_left_alone: int


def import_tenants(path: Path, *, dry_run: bool, advance: Callable[[int], None]) -> Imported:
    """Import a `.csv` or `.jsonl` file, in one transaction.

    CSV has a line for each member, with the columns external_id and name, and optionally slug,
    status, user_id and role; a tenant without members has one line. JSONL has a line for each tenant
    with the same keys and `members`, a list of objects of user_id and role. Writes `tenants` and
    `memberships`, only what is not there, and a row in `sync_runs`; members of linked tenants are
    Clerk's and left alone. `advance` hears of the lines that were read. With `dry_run` all is rolled
    back. Raise InvalidFile, which names the lines that are wrong; then nothing is written.
    """
    problems = Problems()
    with transaction.atomic():
        execute(_STAGE)
        with opened(path) as file, connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in _lines(file, path, problems, advance):
                copy.write_row(row)
        execute("ANALYZE staged_lines")
        _compare_lines(problems)
        problems.raise_any()
        imported = _merge()
        execute("DROP TABLE staged_lines")
        _record(imported)
        transaction.set_rollback(dry_run)
    return imported


def _merge() -> Imported:
    # From here to the end none of these tenants is linked, so none gets members that only Clerk decides
    # about. Not earlier, because reading the file may take long.
    query(_LOCK_TENANTS)
    [(tenants, members)] = query(_COUNT)
    [(tenants_created,)] = query(_INSERT_TENANTS)
    [(members_created,)] = query(_INSERT_MEMBERS)
    [(differing,)] = query(_COUNT_DIFFERING)
    return Imported(tenants, members, tenants_created, members_created, differing)


def _record(imported: Imported) -> None:
    SyncRun.objects.create(
        kind=SyncRun.Kind.IMPORT,
        state=SyncRun.State.COMPLETED,
        created=imported.tenants_created,
        unchanged=imported.tenants - imported.tenants_created,
        finished_at=Now(),
    )


def _compare_lines(problems: Problems) -> None:
    """Note what no line shows alone."""
    for statement, what in (
        (_REPEATED, "repeats line {first}"),
        (_CONTRADICTING, "has another name, slug or status than line {first}, which is of the same tenant"),
    ):
        found = query(statement, shown=SHOWN)
        for line, first, _ in found:
            problems.add(line, what.format(first=first))
        problems.count += found[0][2] - len(found) if found else 0


def _lines(file: IO[str], path: Path, problems: Problems, advance: Callable[[int], None]) -> Iterator[Staged]:
    if path.suffix.lower() == ".csv":
        rows = csv_rows(file, required=REQUIRED, optional=OPTIONAL, problems=problems)
        read: Callable[[Row], Iterator[Staged]] = _read_csv
    elif path.suffix.lower() == ".jsonl":
        rows, read = json_rows(file, problems), _read_json
    else:
        raise InvalidFile(f"{path} is neither .csv nor .jsonl. Nothing was changed.")
    for row in counting(rows, advance):
        try:
            yield from list(read(row))
        except ValueError as error:
            problems.add(row[0], str(error))


def _read_csv(row: Row) -> Iterator[Staged]:
    line, values = row
    given = {name: value.strip() for name, value in values.items()}
    tenant = _tenant(given)
    if given.get("user_id") or given.get("role"):
        yield line, *tenant, *_member(given)
    else:
        yield line, *tenant, None, None


def _read_json(row: Row) -> Iterator[Staged]:
    line, values = row
    unknown = sorted(set(values) - REQUIRED - OPTIONAL - {MEMBERS} | (set(values) & {"user_id", "role"}))
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    members = values.get(MEMBERS, [])
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise ValueError("members is no list of objects")
    tenant = _tenant(values)
    # A line of its own for the tenant: two lines of one tenant are a repetition.
    yield line, *tenant, None, None
    for member in members:
        yield line, *tenant, *_member(member)


def _tenant(given: Mapping[str, Any]) -> tuple[str, str, str | None, str]:
    status = _text(given, "status", MAX_KEY_LENGTH) or Tenant.Status.ACTIVE.value
    if status not in Tenant.Status.values:
        raise ValueError(f"status {status!r} is none of {', '.join(Tenant.Status.values)}")
    return (
        _required(given, "external_id", MAX_KEY_LENGTH),
        _required(given, "name", MAX_NAME_LENGTH),
        _text(given, "slug", MAX_KEY_LENGTH) or None,
        status,
    )


def _member(given: Mapping[str, Any]) -> tuple[str, str]:
    role = _required(given, "role", MAX_KEY_LENGTH)
    if role not in LEGACY_ROLES and not role.startswith(CLERK_ROLE_PREFIX):
        raise ValueError(f"role {role!r} is none of {', '.join(LEGACY_ROLES)}, nor a Clerk role (org:…)")
    user_id = _required(given, "user_id", MAX_KEY_LENGTH)
    try:
        return validate_user_id(user_id), role
    except InvalidClerkId:
        raise ValueError(f"user_id {user_id!r} is no id of a Clerk user (user_…)") from None


def _required(given: Mapping[str, Any], name: str, length: int) -> str:
    value = _text(given, name, length)
    if not value:
        raise ValueError(f"{name} is missing")
    return value


def _text(given: Mapping[str, Any], name: str, length: int) -> str:
    """A string that fits its column; empty when it is not given."""
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")  # noqa: TRY004  (a fault of the file)
    if len(value) > length:
        raise ValueError(f"{name} has {len(value)} characters, {length} are allowed")
    if not value.isprintable():
        raise ValueError(f"{name} holds characters that cannot be printed")
    return value.strip()
