"""Parts of the documentation that come from `docs/openapi.yaml`."""

import re
from pathlib import Path
from typing import Any

import yaml

from clerk_integration.webhooks.exceptions import WebhookError
from docs.tables import table

DOCUMENT = Path(__file__).parent / "openapi.yaml"


def _openapi() -> Any:
    return yaml.safe_load(DOCUMENT.read_text())


def operations() -> str:
    """Return a section for each operation of the API, with its parameters, body and answers."""
    document = _openapi()
    sections = [
        _operation(f"{method.upper()} {path}", operation, document["components"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return "\n\n".join(sections)


def _operation(title: str, operation: dict[str, Any], components: dict[str, Any]) -> str:
    lines = [f"## {title}", f"{operation['summary']}. Operation id `{operation['operationId']}`."]
    fields = [_parameter(one) for one in operation.get("parameters", ())]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        schema = components["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
        required = schema.get("required", ())
        fields += [
            [f"`{name}`", "body", _type(one), f"{'Required. ' if name in required else ''}{_about(one)}"]
            for name, one in schema["properties"].items()
        ]
    if fields:
        lines.append(table(["name", "in", "type", "meaning"], fields))
    statuses = ", ".join(f"[{code}](errors.md#{code})" for code in operation["responses"] if code >= "4")
    success = ", ".join(_success(code, one) for code, one in operation["responses"].items() if code < "4")
    lines.append(f"Answers: {success}. Errors: {statuses}.")
    return "\n\n".join(lines)


def _success(code: str, response: dict[str, Any]) -> str:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    reference = schema.get("$ref") or schema.get("items", {}).get("$ref", "")
    name = reference.rpartition("/")[2]
    if not name:
        return code
    many = "a list of " if schema.get("type") == "array" else ""
    return f"{code} with {many}[{name}](#{name.lower()})"


def _parameter(parameter: dict[str, Any]) -> list[str]:
    schema = parameter["schema"]
    about = _about({**schema, "description": parameter.get("description", "")})
    return [f"`{parameter['name']}`", parameter["in"], _type(schema), about]


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if "allOf" in schema or "$ref" in schema:
        reference = schema.get("$ref") or schema["allOf"][0]["$ref"]
        return _type(_openapi()["components"]["schemas"][reference.rpartition("/")[2]])
    kind = str(schema.get("type", "any"))
    return f"{kind} or null" if schema.get("nullable") else kind


def _about(schema: dict[str, Any]) -> str:
    description = schema.get("description", "")
    # drf-spectacular repeats the choices of an enum, which the type shows.
    parts = [description.partition("* `")[0].strip()]
    for key, text in (("minLength", "at least {} characters"), ("maxLength", "at most {} characters")):
        if schema.get(key, 0) > 1:
            parts.append(text.format(schema[key]))
    for key, text in (("minimum", "from {}"), ("maximum", "up to {}"), ("default", "default `{}`")):
        if schema.get(key) not in (None, ""):
            parts.append(text.format(str(schema[key]).lower()))
    sentences = [part.rstrip(".") for part in parts if part]
    return "; ".join([*(one[:1].upper() + one[1:] for one in sentences[:1]), *sentences[1:]])


def schemas() -> str:
    """Return a table of fields for each object in an answer."""
    sections = []
    for name, schema in _openapi()["components"]["schemas"].items():
        if "properties" not in schema or name.endswith(("Request", "ErrorResponse")) or name == "Error":
            continue
        rows = [[f"`{key}`", _field(one), _about(one)] for key, one in schema["properties"].items()]
        sections.append(f"## {name}\n\n{table(['field', 'type', 'meaning'], rows)}")
    return "\n\n".join(sections)


def _field(schema: dict[str, Any]) -> str:
    if schema.get("type") == "array":
        name = schema["items"].get("$ref", "").rpartition("/")[2]
        return f"list of [{name}](#{name.lower()})" if name else "list"
    return _type(schema)


def error_codes() -> str:
    """Return the codes of each status; the page explains them below."""
    responses = _openapi()["components"]["responses"]
    webhooks = [one for kind in WebhookError.__subclasses__() for one in (kind, *kind.__subclasses__())]
    sections = []
    for name, response in sorted(responses.items()):
        codes = ", ".join(re.findall(r"`\w+`", response["description"]))
        sections.append(f"### {name.removeprefix('Error')}\n\n{codes or response['description']}")
    rows = [
        [str(int(kind.status)), f"`{kind.code}`", str(kind.__doc__)]
        for kind in webhooks
        if isinstance(getattr(kind, "code", None), str)
    ]
    sections.append(f"### Webhooks\n\n{table(['status', 'code', 'meaning'], sorted(rows))}")
    return "\n\n".join(sections)
