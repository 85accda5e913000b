"""Clerk's OpenAPI specifications, if they lie beside the project."""

from functools import cache
from typing import Any

import pytest
import yaml
from django.conf import settings as django_settings

FOLDER = django_settings.BASE_DIR.parent / "shared" / "clerk-openapi"


def read_specification(name: str) -> Any:
    """Return a specification as JSON Schema; skip the test when it is not there."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"Clerk's specification {name} is not beside the project")
    return _load(name)


@cache
def _load(name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return _with_nulls(yaml.load((FOLDER / name).read_text(), Loader=loader))


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
