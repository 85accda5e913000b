"""Read and check the lines of a file that `imports` imports."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from clerk_integration.exceptions import InvalidClerkId
from clerk_integration.naming import name_problem, slug_problem
from clerk_integration.wire.ids import validate_user_id
from tenants.exceptions import InvalidFile
from tenants.files.parsing import Problems, Row, counting, csv_rows, json_rows, opened
from tenants.models import Tenant
from tenants.querysets import LEGACY_ADMIN_ROLES

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


class Line(NamedTuple):
    """One line of the file: a tenant, and one of its members if `user_id` is given."""

    line: int
    external_id: str
    name: str
    slug: str | None
    status: str
    user_id: str | None = None
    role: str | None = None


def read_lines(path: Path, problems: Problems, advance: Callable[[int], None]) -> Iterator[Line]:
    """Yield the valid lines of a `.csv` or `.jsonl` file; add a problem for each other line.

    `advance` is called with the number of lines read. Raise InvalidFile if the file cannot be read.
    """
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
        # A key may hold half of a surrogate pair, which no page can show.
        raise ValueError(f"unknown keys: {', '.join(map(repr, unknown))}")
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
