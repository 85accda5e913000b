"""Of which Clerk instance events are taken: the configured one, else the first that sent one."""

import logging

from django.db import connection

from clerk_integration import models
from clerk_integration.conf import clerk_settings
from clerk_integration.webhooks.exceptions import ForeignInstance

logger = logging.getLogger(__name__)

# The update writes nothing new; it lets the statement return the row whoever has inserted it.
_LEARN = """
INSERT INTO clerk_learned_instance (id, instance_id) VALUES (1, %s)
ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id
RETURNING instance_id
"""


class LearnedInstance:
    """The instance of the first verified event, where CLERK_INSTANCE_ID is unset.

    It is learned once for all processes (`models.LearnedInstance`) and remembered in this one, so
    that an event of that instance costs no statement.
    """

    def __init__(self) -> None:
        self._known = ""

    def accepts(self, instance_id: str) -> bool:
        """Say whether this is the learned instance, after learning it if there was none.

        Takes one statement unless the process knows the answer. Raises database errors.
        """
        if self._known != instance_id:
            self._known = self._learn(instance_id)
        return self._known == instance_id

    def _learn(self, instance_id: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute(_LEARN, [instance_id])
            return str(cursor.fetchone()[0])


_learned_instance = LearnedInstance()


def check_instance(instance_id: str) -> None:
    """Raise ForeignInstance unless events of this instance are taken here.

    To be called for verified events only: where nothing is configured the first one teaches.
    """
    configured = clerk_settings.instance_id
    if not (configured == instance_id if configured else _learned_instance.accepts(instance_id)):
        source = "CLERK_INSTANCE_ID" if configured else "the instance of the first webhook"
        raise ForeignInstance(
            f"the event is of instance {instance_id[:64]!a}, which is not {source}; if it is the right one, "
            "set CLERK_INSTANCE_ID to it"
        )


def known_instance_id() -> str | None:
    """Return the instance that is configured, else the learned one, else None. One statement at most."""
    return clerk_settings.instance_id or (
        models.LearnedInstance.objects.values_list("instance_id", flat=True).first()
    )
