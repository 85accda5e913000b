"""Random values of the schemas in Clerk's specifications: valid ones, and what a later version may send."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

Json = dict[str, Any]

FOLDER: Path = settings.BASE_DIR.parent / "shared" / "clerk-openapi"
WEBHOOKS = "webhooks-2025-04-15.yml"

MAX_DEPTH = 6

STRINGS = [
    "",
    " ",
    "x" * 300,
    "a\x00b",
    "\ud800",
    "\u202egnp.exe",
    "\U0001f9d1\u200d\U0001f680",
    "<script>alert(1)</script>",
    "line\r\nbreak\u2028",
    "\ufeff",
    "'; DROP TABLE tenants; --",
]
INTEGERS = [0, -1, 1, 1716883200, 1716883200000, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**4200]
NUMBERS = [0.0, -0.5, 1e308, 5e-324]


@cache
def specification(name: str) -> Json:
    """The specification in this file; skips the test where there is none."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"Clerk's specification is not here: {path}")
    loaded: Json = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


class ValueMaker:
    """Makes values of the schemas of one specification: extremes, nulls, unknown fields and enum values."""

    def __init__(self, name: str, seed: int) -> None:
        self._specification = specification(name)
        self.chance = random.Random(seed)

    def value(self, schema: Json, depth: int = 0) -> Any:
        """A value of the schema, or null sometimes."""
        schema = self._resolved(schema)
        if self._happens(0.3 if schema.get("nullable") else 0.02):
            return None
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return self.value(self.chance.choice(schema[choice]), depth)
        if "enum" in schema:
            return "a_value_of_tomorrow" if self._happens(0.1) else self.chance.choice(schema["enum"])
        return self._typed(schema, depth)

    def _typed(self, schema: Json, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            length = 0 if depth > MAX_DEPTH else self.chance.choice([0, 1, 3, 9])
            return [self.value(schema.get("items", {}), depth + 1) for _ in range(length)]
        if kind == "string":
            example = str(schema.get("example", f"value_{self.chance.getrandbits(32)}"))
            return self.chance.choice(STRINGS) if self._happens(0.2) else example
        if kind == "boolean":
            return self._happens(0.5)
        return self.chance.choice(INTEGERS if kind == "integer" else NUMBERS)

    def _object(self, schema: Json, depth: int) -> Json:
        required = schema.get("required", [])
        made = {
            name: self.value(property_, depth + 1)
            for name, property_ in schema.get("properties", {}).items()
            if self._happens(0.97 if name in required else 0.7) and depth <= MAX_DEPTH
        }
        if self._happens(0.3):
            made["field_of_tomorrow"] = self.chance.choice([None, {"a": [1]}, "x", *STRINGS])
        return made

    def _resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            found: Any = self._specification
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        if "allOf" not in schema:
            return schema
        merged: Json = {**schema, "properties": dict(schema.get("properties", {})), "required": []}
        for part in map(self._resolved, schema["allOf"]):
            merged = {**part, **merged}
            merged["properties"] |= part.get("properties", {})
            merged["required"] = [*merged["required"], *part.get("required", [])]
        return merged

    def _happens(self, probability: float) -> bool:
        return self.chance.random() < probability
