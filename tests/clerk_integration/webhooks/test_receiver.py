"""What the receiver takes, keeps and refuses of genuine messages."""

import json
import secrets
from typing import Any

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from pytest_django import Settings

from clerk_integration.entities import MARKER_KEY
from clerk_integration.models import LearnedInstance, WebhookDelivery
from clerk_integration.webhooks.views import MAX_BODY_BYTES, receive_webhook
from tests.webhooks import PATH, WebhookSender, is_queued, new_instance_id

pytestmark = pytest.mark.django_db

Json = dict[str, Any]


def refused(response: Any, status: int = 400) -> str:
    """Check that nothing was stored, and return the code of the answer."""
    assert response.status_code == status, response.content
    assert not WebhookDelivery.objects.exists()
    return str(response.json()["errors"][0]["code"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_receiver_takes_post_only(client: Client, method: str) -> None:
    response = client.generic(method, PATH)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    if method != "HEAD":
        assert response.json() == {
            "type": "client_error",
            "errors": [
                {"code": "method_not_allowed", "detail": f'Method "{method}" not allowed.', "attr": None}
            ],
        }


def test_receiver_has_no_trailing_slash(clerk: WebhookSender) -> None:
    assert clerk.http.post(f"{PATH}/", {}).status_code == 404


def test_event_is_stored_with_its_job(clerk: WebhookSender) -> None:
    event = clerk.event("organization.updated")

    assert clerk.send(event, "msg_1").status_code == 204

    delivery = WebhookDelivery.objects.get()
    assert (delivery.svix_id, delivery.event_type) == ("msg_1", "organization.updated")
    assert delivery.organization_id == event["data"]["id"]
    assert (delivery.status, delivery.attempts, delivery.error) == ("received", 0, "")
    assert delivery.payload == event
    assert is_queued(delivery.id)


def test_event_sets_no_cookie_and_needs_none(clerk: WebhookSender) -> None:
    response = clerk.send(clerk.event())
    assert response.status_code == 204
    assert not response.cookies


@pytest.mark.parametrize(
    ("event_type", "data", "expected"),
    [
        ("organization.deleted", {"id": "org_1", "deleted": True}, "org_1"),
        ("organization.deleted", {"deleted": True}, None),
        ("organizationMembership.created", {"id": "orgmem_1", "organization": {"id": "org_2"}}, "org_2"),
        ("organizationMembership.created", {"id": "orgmem_1", "organization": "org_2"}, None),
        ("organizationInvitation.created", {"id": "orginv_1", "organization_id": "org_3"}, "org_3"),
        ("user.deleted", {"id": "user_1"}, None),
        ("organization.updated", {"id": 7}, None),
        ("organization.updated", {"id": "o" * 256}, None),
    ],
)
def test_event_is_stored_with_the_organization_that_it_is_about(
    clerk: WebhookSender, event_type: str, data: Json, expected: str | None
) -> None:
    assert clerk.send(clerk.event(event_type, data=data)).status_code == 204
    assert WebhookDelivery.objects.get().organization_id == expected


@pytest.mark.parametrize("event_type", ["session.created", "organization.renamed", "x" * 255])
def test_event_that_nobody_handles_is_ignored_and_only_its_envelope_kept(
    clerk: WebhookSender, event_type: str
) -> None:
    event = clerk.event(event_type, id="evt_1", event_attributes={"http_request": {"client_ip": "192.0.2.1"}})

    assert clerk.send(event).status_code == 204

    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.attempts) == ("ignored", 0)
    assert delivery.payload == {
        key: event[key] for key in ("object", "type", "id", "timestamp", "instance_id")
    }
    assert not is_queued(delivery.id)


def test_private_and_unsafe_metadata_are_stored_at_no_depth(clerk: WebhookSender) -> None:
    word = secrets.token_hex(8)
    secret = {"private_metadata": {"k": word}, "unsafe_metadata": word, "private\x00_metadata": word}
    deep = {**secret, "list": [[{**secret, "kept": 1}]], "public_metadata": {"a": {**secret, "kept": 2}}}
    organization = {"object": "organization", "id": "org_1", **deep}
    event = clerk.event(
        "organizationMembership.created", data={"organization": organization, **deep}, **secret
    )

    assert clerk.send(event).status_code == 204

    delivery = WebhookDelivery.objects.get()
    assert word not in json.dumps(delivery.payload)
    assert delivery.payload["data"]["organization"] == {
        "object": "organization",
        "id": "org_1",
        "list": [[{"kept": 1}]],
        "public_metadata": {"a": {"kept": 2}},
    }


def test_marker_stays_on_organizations_alone(clerk: WebhookSender) -> None:
    private = {MARKER_KEY: {"id": "m1", "private_metadata": {"x": 1}}, "key": "secret"}
    organization = {"object": "organization", "id": "org_1", "private_metadata": private}
    user = {"object": "user", "id": "user_1", "private_metadata": private}
    data = {"id": "orgmem_1", "organization": organization, "user": user, "private_metadata": private}

    clerk.send(clerk.event("organizationMembership.created", data=data))

    assert WebhookDelivery.objects.get().payload["data"] == {
        "id": "orgmem_1",
        "organization": {
            "object": "organization",
            "id": "org_1",
            "private_metadata": {MARKER_KEY: {"id": "m1"}},
        },
        "user": {"object": "user", "id": "user_1"},
    }


def test_text_that_postgresql_refuses_is_stored_without_it(clerk: WebhookSender) -> None:
    data = b'{"object":"organization","id":"org_\\u00001","name":"a\\ud800b","k\\u0000":[1e999,"\\udc00"]}'
    body = json.dumps(clerk.event("organization.updated", data={})).encode()
    body = body.replace(b'"data": {}', b'"data": ' + data)

    assert clerk.send(body).status_code == 204

    delivery = WebhookDelivery.objects.get()
    assert delivery.organization_id == "org_1"
    assert delivery.payload["data"]["name"] == "a?b"
    assert delivery.payload["data"]["k"] == [None, "?"]


HOSTILE = {
    "empty": b"",
    "no JSON": b"{",
    "list": b"[]",
    "text": b'"event"',
    "null": b"null",
    "byte order mark": b"\xef\xbb\xbf{}",
    "two documents": b"{} {}",
    "nesting bomb": b"[" * 200_000,
    "closed nesting bomb": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "huge number": b'{"timestamp": ' + b"9" * 5_000 + b"}",
    "NaN": b'{"object": "event", "type": "organization.created", "data": {"a": NaN}}',
    "Infinity": b'{"object": "event", "type": "organization.created", "data": {"a": -Infinity}}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_signed_body_that_is_no_event_is_refused(clerk: WebhookSender, body: bytes) -> None:
    assert refused(clerk.send(body)) == "invalid_event"


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize("depth", [100, 199, 200, 480, 900, 960, 980, 1100, 3000])
def test_signed_event_of_any_depth_is_stored_up_to_200_levels(
    clerk: WebhookSender, depth: int, opening: bytes
) -> None:
    closing = b"}" if opening.startswith(b"{") else b"]"
    nested = b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"
    body = (
        json.dumps(clerk.event("organization.updated", data={}))
        .encode()
        .replace(b'"data": {}', b'"data": ' + nested)
    )
    assert clerk.send(body).status_code == 204
    assert levels(WebhookDelivery.objects.get().payload["data"]) == (depth if depth <= 200 else 199)


def levels(value: Any) -> int:
    """Count nested objects and lists."""
    count = 0
    while isinstance(value, dict | list) and value:
        count += 1
        value = value["a"] if isinstance(value, dict) else value[0]
    return count


@pytest.mark.parametrize(
    "changes",
    [
        {"object": None},
        {"object": "organization"},
        {"object": ["event"]},
        {"type": None},
        {"type": 5},
        {"type": ""},
        {"type": "\x00"},
        {"type": "x" * 256},
        {"type": ["organization.updated"]},
        {"data": None},
        {"data": "x"},
        {"data": [{"id": "org_1"}]},
        {"instance_id": None},
        {"instance_id": 1},
        {"instance_id": ""},
        {"timestamp": "1716883200"},
        {"timestamp": True},
        {"timestamp": -1},
        {"timestamp": 2**63},
        {"timestamp": 10**4000},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_signed_envelope_that_is_no_event_is_refused(clerk: WebhookSender, changes: Json) -> None:
    assert refused(clerk.send(clerk.event(**changes))) == "invalid_event"


@pytest.mark.parametrize("timestamp", [None, 1716883200, 1716883200000, 1716883200.5])
def test_event_with_any_scale_of_timestamp_is_stored(clerk: WebhookSender, timestamp: float | None) -> None:
    assert clerk.send(clerk.event(timestamp=timestamp)).status_code == 204


def test_event_of_the_size_limit_is_stored(clerk: WebhookSender) -> None:
    body = json.dumps(clerk.event()).encode()
    assert clerk.send(body + b" " * (MAX_BODY_BYTES - len(body))).status_code == 204


def test_body_over_the_size_limit_is_413(clerk: WebhookSender) -> None:
    body = json.dumps(clerk.event()).encode()
    response = clerk.send(body + b" " * (MAX_BODY_BYTES - len(body) + 1))
    assert refused(response, 413) == "body_too_large"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 400), ({"svix-id": "msg_1", "svix-timestamp": "1"}, 400), ({"content-length": str(2**40)}, 413)],
)
def test_receiver_without_the_right_headers_reads_no_body(
    clerk: WebhookSender, headers: dict[str, str], status: int
) -> None:
    request = RequestFactory().post(PATH, b"{}", content_type="application/json", headers=headers)
    request._stream = UnreadableStream()  # type: ignore[assignment]
    assert receive_webhook(request).status_code == status


class UnreadableStream:
    """The body of a client that sends nothing, and waits for the server to give up."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


def test_size_limit_holds_whatever_django_allows(clerk: WebhookSender, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1
    assert clerk.send(clerk.event()).status_code == 204
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    assert clerk.send(b" " * (MAX_BODY_BYTES + 1)).status_code == 413


def test_event_of_another_instance_than_the_configured_is_refused(clerk: WebhookSender) -> None:
    event = clerk.event(instance_id=new_instance_id())
    assert refused(clerk.send(event)) == "foreign_instance"
    assert not LearnedInstance.objects.exists()


@pytest.mark.parametrize("instance_id", ["ins_123", "of the sender"])
def test_event_of_any_instance_is_stored_while_none_is_known_and_teaches_nothing(
    clerk: WebhookSender, settings: Settings, instance_id: str
) -> None:
    settings.CLERK_INSTANCE_ID = ""

    assert clerk.send(clerk.event(instance_id=instance_id)).status_code == 204
    assert clerk.send(clerk.event(instance_id=new_instance_id())).status_code == 204

    assert not LearnedInstance.objects.exists()


def test_event_of_another_instance_than_the_stored_is_refused(
    clerk: WebhookSender, settings: Settings
) -> None:
    settings.CLERK_INSTANCE_ID = ""
    LearnedInstance.objects.create(instance_id=new_instance_id())
    assert refused(clerk.send(clerk.event())) == "foreign_instance"


def test_event_of_an_instance_that_was_just_adopted_is_stored(
    clerk: WebhookSender, settings: Settings
) -> None:
    settings.CLERK_INSTANCE_ID = ""
    known = LearnedInstance.objects.create(instance_id=new_instance_id())
    assert clerk.send(clerk.event(instance_id=known.instance_id)).status_code == 204

    LearnedInstance.objects.update(instance_id=clerk.instance_id)

    assert clerk.send(clerk.event()).status_code == 204


def test_receiver_in_a_project_with_atomic_requests_stores_the_event(clerk: WebhookSender) -> None:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert clerk.send(clerk.event()).status_code == 204
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert WebhookDelivery.objects.count() == 1


def test_event_of_another_instance_than_the_stored_is_refused_even_if_it_is_configured(
    clerk: WebhookSender,
) -> None:
    stored = new_instance_id()
    LearnedInstance.objects.create(instance_id=stored)

    assert clerk.send(clerk.event()).status_code == 400
    assert clerk.send(clerk.event(instance_id=stored)).status_code == 204


def test_number_too_large_for_a_float_is_stored_as_null(clerk: WebhookSender) -> None:
    body = json.dumps(clerk.event(data={"id": "org_1", "n": 0})).encode().replace(b'"n": 0', b'"n": 1e999')

    assert clerk.send(body).status_code == 204
    assert WebhookDelivery.objects.get().payload["data"]["n"] is None


@pytest.mark.parametrize("digits", [18, 19, 20, 30, 4_000])
def test_integer_of_any_length_is_stored_exactly(clerk: WebhookSender, digits: int) -> None:
    number = int("9" * digits)

    assert clerk.send(clerk.event(data={"id": "org_1", "n": number, "é": "é"})).status_code == 204
    assert WebhookDelivery.objects.get().payload["data"] == {"id": "org_1", "n": number, "é": "é"}
