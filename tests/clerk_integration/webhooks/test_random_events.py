"""Events of every type in Clerk's specification, made at random: each is stored, none is an error of ours."""

import json
import logging
from typing import Any

import pytest

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.drain import drain
from tests.specification import WEBHOOKS, ValueMaker, specification
from tests.webhooks import WebhookSender

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = 500
HANDLED = ("organization", "organizationMembership", "user.deleted")
PREFIXES = {"organization": "org_", "organization_membership": "orgmem_", "user": "user_"}


def random_events(seed: int, instance_id: str) -> list[dict[str, Any]]:
    """At least one event of every type; half of them of the types that have a handler."""
    operations = specification(WEBHOOKS)["x-webhooks"]
    maker = ValueMaker(WEBHOOKS, seed)
    handled = [name for name in operations if name.startswith(HANDLED)]
    types = [*operations, *maker.chance.choices(handled, k=EVENTS // 2)]
    types += maker.chance.choices(list(operations), k=EVENTS - len(types))
    return [event(maker, event_type, operations[event_type], instance_id) for event_type in types]


def event(maker: ValueMaker, event_type: str, operation: dict[str, Any], instance_id: str) -> dict[str, Any]:
    """An event whose envelope is right, and whose data may be anything that the schema allows, and more."""
    schema = operation["post"]["requestBody"]["content"]["application/json"]["schema"]
    made = maker.value(schema) or {}
    data = made.get("data")
    data = data if isinstance(data, dict) else {}
    if maker.chance.random() < 0.7:
        make_readable(data, maker.chance.getrandbits(32))
    stamp = maker.chance.choice([None, 0, 1716883200, 1716883200000, 2**53])
    return {
        **made,
        "object": "event",
        "type": event_type,
        "instance_id": instance_id,
        "timestamp": stamp,
        "data": data,
    }


def make_readable(value: Any, number: int) -> None:
    """Give organizations, memberships and users ids of their kinds."""
    if isinstance(value, dict):
        for name, inner in value.items():
            make_readable(inner, number)
            if name == "user_id":
                value[name] = f"user_{number}"
        if "id" in value and (prefix := PREFIXES.get(str(value.get("object")))):
            value["id"] = f"{prefix}{number}"


@pytest.mark.parametrize("seed", [1])
@pytest.mark.slow
def test_500_events_of_all_types_are_stored_and_processed_without_an_error_of_ours(
    clerk: WebhookSender, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    sent = random_events(seed, clerk.instance_id)
    assert {each["type"] for each in sent} == set(specification(WEBHOOKS)["x-webhooks"])

    for number, each in enumerate(sent):
        answer = clerk.send(json.dumps(each).encode(), f"msg_{number}")
        assert answer.status_code == 204, (number, answer.content, each)

    assert WebhookDelivery.objects.count() == len(sent) == EVENTS
    unreadable = 0
    while drain():
        pass
    for delivery in WebhookDelivery.objects.exclude(status="ignored"):
        if delivery.status == "failed":
            unreadable += 1
            assert "UnreadableRecord" in delivery.error
            assert "Traceback" not in delivery.error
        else:
            assert delivery.status == "processed"
    processed = WebhookDelivery.objects.filter(status="processed").count()
    assert processed > 50
    assert unreadable > 10
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert [record for record in caplog.records if record.exc_info] == []
