"""Complete listings, of lists that change, shrink, repeat themselves or lie."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkError, ClerkProtocolError, ListingIncomplete
from clerk_integration.organizations import (
    get_clerk_memberships,
    get_clerk_memberships_page,
    get_clerk_orgs_page,
    get_user_clerk_orgs,
    iter_clerk_memberships,
    iter_clerk_orgs,
)
from clerk_integration.wire.pages import ClerkPage, FetchPage
from clerk_integration.wire.passes import ClerkListing, SeenRecords, read_whole
from tests.changing_list import Records, grow_by_one, record, serve_list
from tests.hostile_server import HostileServer, respond, respond_by


class Collector:
    """Notes what a reading hands over, and whether a thread fetches pages meanwhile."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.had_thread = False
        self._seen = SeenRecords()

    def handle_page(self, pass_number: int, page: ClerkPage[Any]) -> None:
        self.records += self._seen.add(pass_number, page)
        self.had_thread |= any(one.name.startswith("clerk-page") for one in threading.enumerate())

    def count_seen(self, pass_number: int) -> int:
        return self._seen.count()


def collected(fetch: FetchPage[Any]) -> list[Any]:
    collector = Collector()
    read_whole(fetch, collector)
    return collector.records


LISTINGS: dict[str, Callable[[], Any]] = {
    "organizations": lambda: list(iter_clerk_orgs()),
    "newest organizations": lambda: list(iter_clerk_orgs(order_by="-created_at")),
    "members": lambda: list(iter_clerk_memberships("org_1")),
    "some members": lambda: get_clerk_memberships("org_1", ["user_1"]),
    "memberships of a user": lambda: get_user_clerk_orgs("user_1"),
    "full sync, organizations": lambda: collected(get_clerk_orgs_page),
    "full sync, memberships": lambda: collected(get_clerk_memberships_page),
}
EVERY_LISTING = pytest.mark.parametrize("read_all", LISTINGS.values(), ids=LISTINGS.keys())


@pytest.fixture
def server(settings: Settings) -> Iterator[HostileServer]:
    with HostileServer(respond()) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        settings.CLERK_TIMEOUT_SECONDS = 30.0
        yield server


def listed() -> list[int]:
    return [int(found.name) for found in iter_clerk_orgs()]


@EVERY_LISTING
def test_listing_of_a_list_that_grows_with_every_page_finishes_in_8_calls(
    server: HostileServer, read_all: Callable[[], Any]
) -> None:
    records = [record(number) for number in range(3000)]
    serve_list(server, records, grow_by_one)

    found = read_all()

    assert len(server.requests) <= 8
    assert [one.id for one in found] == [one["id"] for one in records]


def test_listing_from_which_a_record_vanishes_misses_none(server: HostileServer) -> None:
    # Number 500 moves up to the page that was read.
    def delete(number: int, records: Records) -> None:
        if number == 2:
            del records[0]

    serve_list(server, [record(number) for number in range(600)], delete)

    assert listed() == list(range(600))
    assert len(server.requests) == 3


def test_listing_into_which_a_record_comes_yields_each_once(server: HostileServer) -> None:
    # The last record of the first page moves down to the second, and the new one is met by the next pass.
    def insert(number: int, records: Records) -> None:
        if number == 2:
            records.insert(0, record(600))

    serve_list(server, [record(number) for number in range(600)], insert)

    assert listed() == list(range(601))
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "second",
    [range(0), range(500), range(400, 500)],
    ids=["an empty page", "the first page again", "a part of the first page"],
)
def test_listing_that_never_comes_whole_raises_instead_of_ending(
    server: HostileServer, second: range
) -> None:
    def page() -> dict[str, Any]:
        numbers = range(500) if "offset=0" in server.requests[-1] else second
        return {"data": [record(number) for number in numbers], "total_count": 600}

    server.script(respond_by(page))

    with pytest.raises(ListingIncomplete, match="during each of the 3 attempts"):
        list(iter_clerk_orgs())
    assert len(server.requests) <= 9


def test_listing_in_pages_shorter_than_asked_for_is_read_to_the_end(server: HostileServer) -> None:
    pages = [range(100), range(100, 200), range(200, 250)]
    server.script(
        *(
            respond(200, {"data": [record(number) for number in numbers], "total_count": 250})
            for numbers in pages
        )
    )

    assert listed() == list(range(250))
    assert [request.rpartition("offset=")[2] for request in server.requests] == ["0", "100", "200"]


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"data": []}, {"data": None, "total_count": 0}, {"data": [], "total_count": None}],
)
@EVERY_LISTING
def test_listing_without_data_or_count_is_a_protocol_error(
    server: HostileServer, answer: object, read_all: Callable[[], Any]
) -> None:
    server.script(respond(200, answer))
    with pytest.raises(ClerkProtocolError):
        read_all()


@EVERY_LISTING
def test_listing_whose_second_page_fails_raises_instead_of_ending(
    server: HostileServer, read_all: Callable[[], Any]
) -> None:
    first = {"data": [record(number) for number in range(500)], "total_count": 501}
    server.script(respond(200, first), respond(500, {}))

    with pytest.raises(ClerkError):
        read_all()
    assert len(server.requests) == 4


def test_record_nested_deeper_than_python_goes_costs_that_record_only(server: HostileServer) -> None:
    deep: object = {}
    for _ in range(450):
        deep = {"a": deep}
    serve_list(server, [record(1), {**record(2), "public_metadata": deep}])

    listing = iter_clerk_orgs()
    found = [organization.name for organization in listing]

    assert found[0] == "1"
    assert len(found) + len(listing.skipped) == 2


def page(*numbers: int, offset: int, total: int) -> ClerkPage[ClerkOrganization]:
    organizations = [ClerkOrganization(id=f"org_{number}", name=str(number)) for number in numbers]
    return ClerkPage(organizations, offset=offset, total=total)


def test_list_of_a_second_pass_holds_the_records_of_that_pass_only() -> None:
    """Between two requests the whole list was replaced, so that no page continues the first."""
    pages = iter(
        [
            page(0, 1, offset=0, total=3),
            page(offset=2, total=2),
            page(2, 3, offset=0, total=2),
            page(2, 3, offset=0, total=2),
        ]
    )

    records = ClerkListing(lambda _offset: next(pages)).to_list()

    assert ([found.id for found in records], records.complete) == (["org_2", "org_3"], True)


@pytest.mark.parametrize(("total", "has_thread"), [(0, False), (1, False), (3, False), (4, True), (9, True)])
def test_read_whole_starts_a_thread_for_the_second_page_only(total: int, has_thread: bool) -> None:
    def fetch(offset: int) -> ClerkPage[ClerkOrganization]:
        return page(*range(total)[offset : offset + 3], offset=offset, total=total)

    collector = Collector()
    read_whole(fetch, collector)

    assert [int(found.name) for found in collector.records] == list(range(total))
    assert collector.had_thread == has_thread
