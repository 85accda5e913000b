"""Repeat a statement whose connection was lost, instead of a check of the connection before each request."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections

Result = TypeVar("Result")


def repeat_if_lost(action: Callable[[], Result]) -> Result:
    """Return the result of `action`; call it again if the connection was lost since its last use.

    `action` executes one statement that may be repeated without harm, the first of a request. Django would
    first ask the database whether the connection works. That takes as long as the statement itself.
    """
    # Each attribute of `django.db.connection` would look the connection up.
    used: Any = connections[DEFAULT_DB_ALIAS]
    may_be_lost = used.connection is not None and not used.in_atomic_block
    used.health_check_done = True
    try:
        return action()
    except (OperationalError, InterfaceError):
        if not may_be_lost or used.is_usable():
            raise
        used.close()
        return action()
