"""The OpenAPI document, and OPTIONS."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from tenants.api.errors import CLERK_FAILURES, CONFLICTS
from tests.tenants.conftest import Caller

PROJECT = Path(__file__).parents[3]
DOCUMENT = PROJECT / "docs" / "openapi.yaml"


@pytest.fixture(scope="module")
def document() -> Any:
    output = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=output)
    return yaml.safe_load(output.getvalue())


def operations(document: Any) -> list[tuple[str, Any]]:
    return [(method, op) for path in document["paths"].values() for method, op in path.items()]


def test_openapi_document_in_docs_is_current(document: Any) -> None:
    checked_in = yaml.safe_load(DOCUMENT.read_text())

    assert checked_in == document, "Run: DEBUG=true uv run manage.py spectacular --file docs/openapi.yaml"


def test_openapi_operations_have_readable_ids_and_summaries(document: Any) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]

    assert [
        name
        for name in ids
        if not re.fullmatch(r"(create|delete|deactivate|get|list|set|sync|update)[A-Z]\w+", name)
    ] == []
    assert len(set(ids)) == len(ids)
    assert all(0 < len(operation["summary"]) <= 110 for _, operation in operations(document))


def test_openapi_names_the_real_codes_of_errors(document: Any) -> None:
    text = json.dumps(document["components"]["responses"])
    modules = [*(PROJECT / "clerk_integration/tokens").glob("*.py"), *(PROJECT / "tenants/api").glob("*.py")]
    raised = {code for path in modules for code in re.findall(r'code="(\w+)"|"(\w+)": "', path.read_text())}
    codes = {code for code, _ in raised if code} | {key for _, key in raised if key.startswith("api_key_")}

    assert len(codes) > 10
    for code in [*codes, *CONFLICTS.values(), *(code for _, code, _ in CLERK_FAILURES), "throttled"]:
        assert f'"{code}"' in text, code


class Book(serializers.Serializer[Any]):
    title = serializers.CharField()


class Books(GenericViewSet[Any]):
    serializer_class = Book

    def create(self, request: Request) -> Response:
        """Add a book."""
        return Response()


def test_openapi_view_of_a_project_with_an_action_of_ours_describes_itself() -> None:
    generator: Any = SchemaGenerator  # an untyped library

    patterns = [path("books", Books.as_view({"post": "create"}))]
    operation = generator(patterns=patterns).get_schema(public=True)["paths"]["/books"]["post"]

    assert operation["operationId"] == "books_create"
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/BookRequest")
    assert list(operation["responses"]) == ["201"]


def test_openapi_query_parameter_may_be_empty(document: Any) -> None:
    parameters = [p for _, operation in operations(document) for p in operation.get("parameters", [])]

    assert len([p for p in parameters if p["in"] == "query"]) > 5
    assert [p["name"] for p in parameters if "minLength" in p["schema"]] == []


def test_openapi_name_of_a_new_tenant_must_not_be_empty(document: Any) -> None:
    name = document["components"]["schemas"]["TenantCreateRequest"]["properties"]["name"]

    assert (name["minLength"], name["maxLength"]) == (1, 256)
    assert "minLength" not in document["components"]["schemas"]["Tenant"]["properties"]["logoUrl"]


@pytest.mark.django_db
def test_options_names_what_each_allowed_method_does(ada: Caller) -> None:
    response = ada.request("OPTIONS", "/tenants/1")

    assert response.status_code == 200
    assert response.json()["renders"] == response.json()["parses"] == ["application/json"]
    assert set(response.json()["methods"]) == {"GET", "PATCH", "DELETE"}
    assert response.json()["methods"]["GET"] == "Show one tenant."
