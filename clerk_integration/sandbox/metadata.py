"""Clerk's deep merge of metadata."""

from collections.abc import Mapping
from typing import Any


def merged(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `stored` with `changes` merged in at every level; null removes a key."""
    result = dict(stored)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result
