"""`manage.py send_test_webhook TYPE`: signs a sample event as Clerk does, and posts the event."""

import json
import secrets
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import requests
from django.core.management.base import CommandError, CommandParser
from standardwebhooks import Webhook

from clerk_integration.conf import clerk_settings, is_signing_secret
from clerk_integration.exceptions import InvalidClerkId
from clerk_integration.instance import known_instance_id
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.webhooks.samples import SAMPLE_TYPES, sample_event
from clerk_integration.wire.ids import validate_org_id

ADVICE = {
    "invalid_signature": "Give the server and this command the same CLERK_WEBHOOK_SIGNING_SECRET.",
    "foreign_instance": "Give the server and this command the same CLERK_INSTANCE_ID.",
    "webhooks_not_configured": "Set CLERK_WEBHOOK_SIGNING_SECRET for the server, too.",
    "not_stored": "Check the database of the server.",
}

RECEIVER_URL = "http://127.0.0.1:8000/api/v1/webhooks/clerk"

TIMEOUT_SECONDS = 15
"""The time in which a receiver must answer Svix, which sends webhooks for Clerk."""


class Command(DatabaseCommand):
    """Prints status and error code of the receiver's answer. The exit code is 1 unless the status is 204."""

    help = (
        "Signs a sample event with the first signing secret and posts it to the running server. The event is "
        "processed like any other: it leaves rows behind, and `organization.deleted` deactivates the tenant "
        "of the organization that it names."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the type, `--url` and `--organization-id`."""
        parser.add_argument("type", choices=SAMPLE_TYPES, metavar="TYPE", help=", ".join(SAMPLE_TYPES))
        parser.add_argument("--url", default=RECEIVER_URL, help=f"the receiver; default {RECEIVER_URL}")
        parser.add_argument(
            "--organization-id", default="", metavar="ID", help="default: one that does not exist in Clerk"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Build, sign and post the event."""
        body = json.dumps(_event(options["type"], options["organization_id"]))
        headers = _signed_headers(body)
        response = _post(options["url"], body, headers)
        code, detail = _read_error(response)
        answer = " ".join(filter(None, (str(response.status_code), response.reason, code)))
        self.stdout.write(f"{options['type']} {headers['svix-id']}: {answer}")
        if response.status_code != HTTPStatus.NO_CONTENT:
            reason = (detail or _explain(response)).removeprefix("Nothing was stored: ")
            raise CommandError(f"The event was not stored: {reason} {ADVICE.get(code, '')}".rstrip())


def _event(event_type: str, organization_id: str) -> dict[str, Any]:
    try:
        organization_id = organization_id and validate_org_id(organization_id)
    except InvalidClerkId as error:
        raise CommandError(str(error)) from None
    instance_id = known_instance_id()
    if not instance_id:
        raise CommandError(
            "CLERK_INSTANCE_ID is not set and the instance is not known yet. Set it (manage.py check_clerk "
            "shows it). Nothing was sent."
        )
    return sample_event(event_type, instance_id=instance_id, organization_id=organization_id)


def _signed_headers(body: str) -> dict[str, str]:
    secret = next(filter(is_signing_secret, clerk_settings.webhook_signing_secrets), None)
    if secret is None:
        raise CommandError(
            "CLERK_WEBHOOK_SIGNING_SECRET is not set to a signing secret. Nothing was sent. Set "
            "it to the signing secret of the webhook endpoint (whsec_...)."
        )
    message_id, now = f"msg_sample{secrets.token_hex(10)}", datetime.now(UTC)
    return {
        "content-type": "application/json",
        "svix-id": message_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, now, body),
    }


def _post(url: str, body: str, headers: dict[str, str]) -> requests.Response:
    with requests.Session() as session:
        # The receiver is our own server, so ignore the proxy variables of the environment.
        session.trust_env = False
        try:
            return session.post(
                url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            raise CommandError(_explain_failure(url, error)) from None


def _read_error(response: requests.Response) -> tuple[str, str]:
    """Return code and detail of an error in the format of our API; return empty strings for other formats."""
    try:
        error = response.json()["errors"][0]
        return str(error["code"]), str(error["detail"])
    except (ValueError, LookupError, TypeError):
        return "", ""


def _explain(response: requests.Response) -> str:
    """Return an explanation of an answer that our webhook endpoint did not send."""
    if response.is_redirect:
        return (
            f"{response.url} redirects to {response.headers['location']}, and Clerk follows no redirect. Use "
            "that address, with the path /api/v1/webhooks/clerk."
        )
    if response.status_code == HTTPStatus.NOT_FOUND:
        return f"There is no receiver at {response.url}: its path is /api/v1/webhooks/clerk, without a slash."
    return f"{response.url} did not answer as our receiver does. Check --url, and the log of that server."


def _explain_failure(url: str, error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return (
            f"{url} did not answer within {TIMEOUT_SECONDS} s, so Clerk would send the event again. "
            "It may be stored; check the log of that server."
        )
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"{url} has no valid certificate, so Clerk would not send the event. Nothing was sent. Give "
            "the server a valid certificate."
        )
    if isinstance(error, requests.ConnectionError):
        return (
            f"Nothing answers at {url}. Start the server first (manage.py runserver), or name its address "
            "with --url. Nothing was sent."
        )
    return f"{url!r} is not an http or https URL. Correct --url. Nothing was sent."
