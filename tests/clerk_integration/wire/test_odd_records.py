"""One record that is too much for Python or PostgreSQL, among 1, 3 and 9."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkRejected
from clerk_integration.organizations import (
    create_clerk_org,
    get_clerk_org,
    get_user_clerk_orgs,
    iter_clerk_orgs,
)
from tests.changing_list import record
from tests.hostile_server import HostileServer, clerk_error, respond

VALUES = {
    "a number of 4,400 digits": "9" * 4400,
    "a negative number of 9,000 digits": "-" + "9" * 9000,
    "a number beyond floats": "1e999",
    "1,100 nested lists": "[" * 1100 + "]" * 1100,
    "450 nested lists": "[" * 450 + "]" * 450,
    "100,000 nested objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
}
EVERY_VALUE = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


@pytest.fixture
def server(settings: Settings) -> Iterator[HostileServer]:
    with HostileServer(respond()) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        settings.CLERK_TIMEOUT_SECONDS = 30.0
        yield server


def as_json(data: Any, value: str) -> bytes:
    """Return the JSON of `data`, with `value` in the place of "ODD"."""
    return json.dumps(data).replace('"ODD"', value).encode()


ODD: dict[str, Any] = {**record(0), "public_metadata": {"plan": "pro", "odd": "ODD"}}


@EVERY_VALUE
@pytest.mark.parametrize("count", [1, 3, 9])
def test_listing_odd_metadata_is_read_without_the_value_and_named(
    server: HostileServer, caplog: pytest.LogCaptureFixture, value: str, count: int
) -> None:
    data = [ODD, *(record(number) for number in range(1, count))]
    server.script(respond(200, as_json({"data": data, "total_count": count}, value)))

    listing = iter_clerk_orgs()
    found = list(listing)

    assert [one.id for one in found] == [f"org_{number}" for number in range(count)]
    assert listing.complete
    assert found[0].public_metadata["plan"] == "pro"
    assert "Public metadata of org_0 holds values that cannot be stored" in caplog.text


@EVERY_VALUE
@pytest.mark.parametrize(
    "call",
    [lambda: get_clerk_org("org_0"), lambda: create_clerk_org("Acme", "user_1")],
    ids=["get", "create"],
)
def test_single_organization_odd_metadata_is_read(
    server: HostileServer, value: str, call: Callable[[], ClerkOrganization]
) -> None:
    server.script(respond(200, as_json(ODD, value)))

    assert (call().id, call().public_metadata["plan"]) == ("org_0", "pro")


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize(
    "changes",
    [
        {"organization": {"id": "org_" + "9" * 252}},
        {"organization": None},
        {"role": "r" * 256},
        {"role": "NUL\x00"},
        {"public_user_data": {"user_id": "user_" + "9" * 251}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_listing_unreadable_record_is_skipped_and_named(
    server: HostileServer, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], count: int
) -> None:
    odd = {**record(0), "id": "orgmem_0", **changes}
    data = [odd, *(record(number) for number in range(1, count))]
    server.script(respond(200, {"data": data, "total_count": count}))

    with caplog.at_level(logging.WARNING):
        found = get_user_clerk_orgs("user_1")

    assert [one.id for one in found] == [f"org_{number}" for number in range(1, count)]
    assert [one.id for one in found.skipped] == ["orgmem_0"]
    assert "(orgmem_0) was skipped" in caplog.text


@pytest.mark.parametrize("stamp", [253_402_300_800_000, 2**62, 1, "9" * 5000, "ODD"])
def test_listing_implausible_stamp_counts_as_unknown(server: HostileServer, stamp: Any) -> None:
    data = [{**record(0), "updated_at": stamp, "created_at": stamp}, record(1), record(2)]
    server.script(respond(200, as_json({"data": data, "total_count": 3}, "9" * 4400)))

    found = get_user_clerk_orgs("user_1")

    assert [(one.created_at, one.updated_at) for one in found] == [(None, None)] * 3


def test_refusal_text_with_nul_and_lone_surrogate_holds_neither(server: HostileServer) -> None:
    server.script(
        clerk_error(422, "form_\x00param", long_message="No\x00 \ud800name", meta={"param_name": "na\x00me"})
    )

    with pytest.raises(ClerkRejected) as caught:
        create_clerk_org("Acme", "user_1")

    assert (caught.value.message, caught.value.code, caught.value.param) == ("No ?name", "form_param", "name")
