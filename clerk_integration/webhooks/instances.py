"""From which Clerk instance events are accepted: the configured one, else the one that sent the first."""

from django.db import connection, transaction

from clerk_integration import models
from clerk_integration.conf import clerk_settings
from clerk_integration.webhooks.exceptions import ForeignInstance

# One statement for whoever comes first. An existing row is only read; the update is for the process that
# finds another one inserting the row at the same time.
_LEARN = """
WITH learned AS (
    INSERT INTO clerk_learned_instance (id, instance_id)
    SELECT 1, %s WHERE NOT EXISTS (SELECT FROM clerk_learned_instance)
    ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id
    RETURNING instance_id
)
SELECT instance_id FROM learned UNION ALL SELECT instance_id FROM clerk_learned_instance
"""


class LearnedInstance:
    """The instance of the first verified event, where CLERK_INSTANCE_ID is unset.

    Stored once for all processes (`models.LearnedInstance`) and remembered in this one, so that an event
    of that instance costs no statement.
    """

    def __init__(self) -> None:
        self._known = ""

    def accepts(self, instance_id: str) -> bool:
        """Return whether this is the learned instance, after learning it if there is none.

        One statement unless this process knows the answer. An instance that was learned in a transaction
        that is rolled back is forgotten with it.
        """
        if self._known == instance_id:
            return True
        with connection.cursor() as cursor:
            cursor.execute(_LEARN, [instance_id])
            learned = str(cursor.fetchone()[0])
        transaction.on_commit(lambda: self._remember(learned))
        return learned == instance_id

    def _remember(self, learned: str) -> None:
        self._known = learned


_learned_instance = LearnedInstance()


def check_configured_instance(instance_id: str) -> None:
    """Raise ForeignInstance when another instance is configured. No statement."""
    configured = clerk_settings.instance_id
    if configured and configured != instance_id:
        raise _foreign(instance_id, "CLERK_INSTANCE_ID")


def check_learned_instance(instance_id: str) -> None:
    """Raise ForeignInstance when none is configured and the first webhook came from another instance.

    Call it for verified events only, since the first one is learned from. One statement at most.
    """
    if not (clerk_settings.instance_id or _learned_instance.accepts(instance_id)):
        raise _foreign(instance_id, "the instance of the first webhook")


def known_instance_id() -> str | None:
    """Return the configured instance, else the learned one, else None. One statement at most."""
    return clerk_settings.instance_id or (
        models.LearnedInstance.objects.values_list("instance_id", flat=True).first()
    )


def _foreign(instance_id: str, expected: str) -> ForeignInstance:
    return ForeignInstance(
        f"the event is from instance {instance_id[:64]!a}, which is not {expected}; if it is the right one, "
        "set CLERK_INSTANCE_ID to it"
    )
