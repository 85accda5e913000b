"""Which messages are taken for Clerk's."""

import base64
import json
import logging
import secrets

import pytest
from pytest_django import Settings

from clerk_integration.models import WebhookDelivery
from tests.webhooks import WebhookSender, new_message_id, new_signing_secret

pytestmark = pytest.mark.django_db

MALFORMED = "v1;x v1 v1, v1,a,b v1,!!!! v1,abc v1a,c29tZXRoaW5n v2,AAAA ,"


def refused(response: object) -> str:
    """Check that nothing was stored, and return the code of the answer."""
    assert response.status_code == 400, response.content  # type: ignore[attr-defined]
    assert not WebhookDelivery.objects.exists()
    body = response.json()  # type: ignore[attr-defined]
    assert body["type"] == "client_error"
    [error] = body["errors"]
    assert error["attr"] is None
    return str(error["code"])


@pytest.fixture
def body(clerk: WebhookSender) -> bytes:
    return json.dumps(clerk.event()).encode()


def test_webhook_with_a_valid_signature_is_stored(clerk: WebhookSender, body: bytes) -> None:
    response = clerk.send(body, "msg_1")
    assert (response.status_code, response.content) == (204, b"")
    assert WebhookDelivery.objects.get().svix_id == "msg_1"


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_webhook_without_a_header_is_refused(
    clerk: WebhookSender, body: bytes, name: str, value: str | None
) -> None:
    headers = clerk.headers(body)
    del headers[name]
    assert (
        refused(clerk.post(body, headers | ({} if value is None else {name: value}))) == "invalid_signature"
    )


@pytest.mark.parametrize(
    "forged",
    [
        "x",  # no comma
        "v1",
        "v1,",
        "v1,a,b",  # two commas
        "v1,!!!!",  # no base64
        "v1,abc",  # base64 without its padding
        "v1,\xff\xfe",  # no ASCII
        "v2,{right}",
        "v1a,{right}",
        "V1,{right}",
        "{right}",
        "v1,{right}x",
        "v1," + base64.b64encode(bytes(32)).decode(),
        ",",
        " ".join(["v1,A"] * 500),
    ],
)
def test_webhook_with_a_signature_that_is_none_is_refused(
    clerk: WebhookSender, body: bytes, forged: str
) -> None:
    headers = clerk.headers(body)
    right = headers["svix-signature"].removeprefix("v1,")
    headers["svix-signature"] = forged.replace("{right}", right)
    assert refused(clerk.post(body, headers)) == "invalid_signature"


@pytest.mark.parametrize("position", ["first", "last"])
def test_webhook_with_one_valid_signature_beside_malformed_ones_is_stored(
    clerk: WebhookSender, body: bytes, position: str
) -> None:
    headers = clerk.headers(body)
    valid = headers["svix-signature"]
    headers["svix-signature"] = f"{valid} {MALFORMED}" if position == "first" else f"{MALFORMED}  {valid}"
    assert clerk.post(body, headers).status_code == 204


def test_webhook_signed_twice_during_the_senders_rotation_is_stored(
    clerk: WebhookSender, body: bytes
) -> None:
    other = WebhookSender(secret=new_signing_secret(), instance_id=clerk.instance_id)
    message_id = new_message_id()
    headers = clerk.headers(body, message_id)
    headers["svix-signature"] = " ".join(
        sender.headers(body, message_id)["svix-signature"] for sender in (other, clerk)
    )
    assert clerk.post(body, headers).status_code == 204


@pytest.mark.parametrize("changed", ["id", "timestamp", "body", "secret"])
def test_webhook_that_was_changed_after_signing_is_refused(
    clerk: WebhookSender, body: bytes, changed: str, settings: Settings
) -> None:
    headers = clerk.headers(body)
    match changed:
        case "id":
            headers["svix-id"] += "x"
        case "timestamp":
            headers["svix-timestamp"] = str(int(headers["svix-timestamp"]) + 1)
        case "body":
            body = body.replace(b"Acme", b"Evil")
        case _:
            settings.CLERK_WEBHOOK_SIGNING_SECRET = [new_signing_secret()]
    assert refused(clerk.post(body, headers)) == "invalid_signature"


@pytest.mark.parametrize("seconds_ago", [299 - 10, -299 + 10])
def test_webhook_within_five_minutes_is_stored(clerk: WebhookSender, body: bytes, seconds_ago: int) -> None:
    assert clerk.send(body, seconds_ago=seconds_ago).status_code == 204


@pytest.mark.parametrize("seconds_ago", [301, 3600, -310, -3600])
def test_webhook_too_old_or_ahead_is_refused(clerk: WebhookSender, body: bytes, seconds_ago: int) -> None:
    assert refused(clerk.send(body, seconds_ago=seconds_ago)) == "invalid_signature"


@pytest.mark.parametrize("timestamp", ["now", "nan", "inf", "-inf", "1e999", "9" * 400, "0x10", "-1", "\xb2"])
def test_webhook_with_a_timestamp_that_is_none_is_refused(
    clerk: WebhookSender, body: bytes, timestamp: str
) -> None:
    headers = clerk.headers(body) | {"svix-timestamp": timestamp}
    assert refused(clerk.post(body, headers)) == "invalid_signature"


@pytest.mark.parametrize("message_id", ["x" * 256, "msg.1", "msg\xff", "msg\x01", "msg\t1", "msg\x00"])
def test_webhook_with_an_id_that_is_none_is_refused(
    clerk: WebhookSender, body: bytes, message_id: str
) -> None:
    assert refused(clerk.send(body, message_id)) == "invalid_signature"


def test_webhook_with_the_longest_id_is_stored(clerk: WebhookSender, body: bytes) -> None:
    assert clerk.send(body, "x" * 255).status_code == 204


@pytest.mark.parametrize("body", [b"\xff", b'{"type": "\xc3"}', "{}".encode("utf-16")])
def test_webhook_that_is_no_utf_8_is_refused(clerk: WebhookSender, body: bytes) -> None:
    assert refused(clerk.send(body)) == "invalid_signature"


def test_webhook_signed_with_any_configured_secret_is_stored(
    clerk: WebhookSender, body: bytes, settings: Settings
) -> None:
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [new_signing_secret(), "whsec_!", clerk.secret]
    assert clerk.send(body).status_code == 204


@pytest.mark.parametrize("configured", [[], [""], ["whsec_"], ["whsec_!!!!"], ["secret"], ["whsec_dGVzdA=="]])
def test_webhook_without_a_usable_secret_is_503_and_critical(
    clerk: WebhookSender,
    body: bytes,
    settings: Settings,
    configured: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.CLERK_WEBHOOK_SIGNING_SECRET = configured

    response = clerk.send(body)

    assert (response.status_code, response.json()["type"]) == (503, "server_error")
    assert response.json()["errors"][0]["code"] == "webhooks_not_configured"
    assert not WebhookDelivery.objects.exists()
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)
    assert all(value not in caplog.text for value in configured if len(value) > len("whsec_"))


def test_refusal_logs_the_reason_and_neither_body_nor_secret(
    clerk: WebhookSender, caplog: pytest.LogCaptureFixture
) -> None:
    word = secrets.token_hex(8)
    for body in (clerk.event("organization.updated", data={"name": word}), {"type": word}, [word]):
        clerk.send(body, seconds_ago=3600)
        clerk.send(body | {"object": word} if isinstance(body, dict) else body)
    clerk.send(f"{word} is no JSON".encode())

    reasons = [record.getMessage() for record in caplog.records if "webhook refused" in record.getMessage()]
    assert len(reasons) == 7
    assert "too old" in reasons[0]
    assert "`object` is not `event`" in reasons[1]
    assert word not in caplog.text
    assert clerk.secret not in caplog.text
