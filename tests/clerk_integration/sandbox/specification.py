"""Clerk's OpenAPI specifications as JSON Schema."""

from functools import cache
from typing import Any

from tests.specification import specification


@cache
def read_specification(name: str) -> Any:
    """Return a specification as JSON Schema; skip the test when it is not there."""
    return _with_nulls(specification(name))


def _with_nulls(node: Any) -> Any:
    """Return JSON Schema for OpenAPI 3.0: `nullable` becomes one more alternative."""
    if isinstance(node, list):
        return [_with_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {key: _with_nulls(value) for key, value in node.items()}
    if node.get("nullable") is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema
