"""Read the outcomes of a run's items from its slices, page by page, whatever the number of items.

Items are in the order of the plan. A planned item without an outcome has the result "" (not tried yet).
"""

from collections.abc import Iterator
from typing import NamedTuple

from tenants.models import SyncRun
from tenants.querysets import MAX_ID_DIGITS
from tenants.sql import query

PAGE = 100
AT_ONCE = 1_000
"""Number of outcomes in memory while all outcomes are read."""

START = "::0"

DIFFERENCE = "difference"
"""The result of an item of a dry run, which has only a `problem`."""

OUTCOMES = """
SELECT slice.part, slice.number, item.place, item.id, item.result, item.reason
FROM sync_run_slices AS slice
CROSS JOIN LATERAL (
    SELECT outcome.id, coalesce(value ->> 'result', %(difference)s) AS result,
           coalesce(value ->> 'reason', value ->> 'problem', '') AS reason,
           row_number() OVER (ORDER BY length(outcome.id), outcome.id) AS place
    FROM (
        SELECT key AS id, value FROM jsonb_each(slice.outcomes)
        UNION ALL
        SELECT planned.id, '{"result": ""}' FROM jsonb_array_elements_text(coalesce(
            slice.arguments -> 'ids',
            jsonb_path_query_array(slice.arguments, '$.rows[*].tenant_id'))) AS planned (id)
        WHERE NOT slice.outcomes ? planned.id) AS outcome
    ) AS item
WHERE slice.run_id = %(run)s AND (slice.part, slice.number) >= (%(part)s, %(number)s)
  AND (slice.part, slice.number, item.place) > (%(part)s, %(number)s, %(place)s)
  AND (%(result)s::text IS NULL OR item.result = %(result)s)
ORDER BY slice.part, slice.number, item.place
LIMIT %(size)s
"""


class Outcome(NamedTuple):
    """The outcome of one item; `position` is where a page ends whose last item it is."""

    item: str
    result: str
    reason: str
    position: str


def read_page(
    run: SyncRun, *, result: str | None = None, after: str = START, size: int = PAGE
) -> tuple[list[Outcome], str]:
    """Return `size` outcomes, and the position after which the next page begins, "" on the last page.

    With `result`, return only the items with this result. Run one statement.
    """
    part, number, place = _parse(after)
    rows = query(
        OUTCOMES,
        run=run.pk,
        part=part,
        number=number,
        place=place,
        result=result,
        size=size + 1,
        difference=DIFFERENCE,
    )
    found = [
        Outcome(item, result, reason, f"{part}:{number}:{place}")
        for part, number, place, item, result, reason in rows[:size]
    ]
    return found, found[-1].position if len(rows) > size else ""


def iterate(run: SyncRun, *, result: str | None = None) -> Iterator[Outcome]:
    """Yield all outcomes; keep AT_ONCE of them in memory."""
    after = START
    while after:
        found, after = read_page(run, result=result, after=after, size=AT_ONCE)
        yield from found


def _parse(position: str) -> tuple[str, int, int]:
    """Return part, slice number and place of a position; those of START for any other text."""
    part, _, rest = position.partition(":")
    number, _, place = rest.partition(":")
    if "\0" in part or not all(_is_number(text) for text in (number, place)):
        return "", 0, 0
    return part, min(int(number), 2**31 - 1), min(int(place), 2**31 - 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_ID_DIGITS
