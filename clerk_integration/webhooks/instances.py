"""Refuse events of Clerk instances other than ours."""

import math
import time

from clerk_integration.conf import clerk_settings
from clerk_integration.instance import known_instance_id
from clerk_integration.webhooks.exceptions import ForeignInstance

REMEMBER_SECONDS = 60.0
"""Time during which an accepted instance is not looked up again."""


class AcceptedInstance:
    """The instance of the last event that this process accepted, and until when the result is reused."""

    def __init__(self) -> None:
        self._instance_id = ""
        self._expires_at = -math.inf

    def includes(self, instance_id: str) -> bool:
        return instance_id == self._instance_id and time.monotonic() < self._expires_at

    def remember(self, instance_id: str) -> None:
        self._instance_id, self._expires_at = instance_id, time.monotonic() + REMEMBER_SECONDS


_accepted = AcceptedInstance()


def check_instance(instance_id: str) -> None:
    """Raise ForeignInstance if the event is from another instance than the stored, else configured, one.

    While no instance is known, every signed event is accepted. The instance is not learned from events,
    because Clerk's own example events carry the invented instance `ins_123`. One statement; none if the last
    event, up to 60 s ago, was of the same instance.
    """
    if clerk_settings.instance_id in ("", instance_id) and _accepted.includes(instance_id):
        return
    known = known_instance_id()
    if known and known != instance_id:
        raise ForeignInstance(
            f"the event is of instance {instance_id[:64]!a}, and this server works with {known}. Clerk's "
            "example events carry ins_123; otherwise the endpoint belongs to another instance"
        )
    _accepted.remember(instance_id)
