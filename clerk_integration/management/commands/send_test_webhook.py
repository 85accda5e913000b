"""`manage.py send_test_webhook TYPE`: signs a sample event and posts it, as Clerk would."""

import json
import secrets
from datetime import UTC, datetime
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

RECEIVER_URL = "http://127.0.0.1:8000/api/v1/webhooks/clerk"

TIMEOUT_SECONDS = 15
"""The time that Clerk's sender allows a receiver."""


class Command(DatabaseCommand):
    """Prints the receiver's answer; exit code 1 unless it is 2xx."""

    help = (
        "Signs a sample event with the first signing secret and posts it to the running server. The event is "
        "processed like any other: it leaves rows behind, and `organization.deleted` ends the tenant of the "
        "organization that it names."
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
        self.stdout.write(f"{options['type']} {headers['svix-id']}: {response.status_code} {response.text}")
        if not response.ok or response.is_redirect:
            raise CommandError(f"The receiver did not accept the event; {options['url']} logs the reason.")


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
        raise CommandError("CLERK_WEBHOOK_SIGNING_SECRET is not set to a signing secret. Nothing was sent.")
    message_id, now = f"msg_sample{secrets.token_hex(10)}", datetime.now(UTC)
    return {
        "content-type": "application/json",
        "svix-id": message_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, now, body),
    }


def _post(url: str, body: str, headers: dict[str, str]) -> requests.Response:
    with requests.Session() as session:
        # The server is on this machine or ours: no proxy of the environment is used.
        session.trust_env = False
        try:
            return session.post(
                url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            raise CommandError(
                f"{url} could not be reached: {type(error).__name__}. Start the server first "
                "(manage.py runserver), or name it with --url."
            ) from None
