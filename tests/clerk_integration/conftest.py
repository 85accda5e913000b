"""A sender of webhooks that this project is set up for, and what its inbox holds."""

import pytest
from pytest_django import Settings

from tests.webhooks import WebhookSender, new_instance_id, new_signing_secret


@pytest.fixture
def clerk(settings: Settings) -> WebhookSender:
    """The sender whose secret and instance are configured."""
    sender = WebhookSender(secret=new_signing_secret(), instance_id=new_instance_id())
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [sender.secret]
    settings.CLERK_INSTANCE_ID = sender.instance_id
    return sender
