"""The pages that are served to anybody, without the internet."""

import re
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client


def test_docs_are_public_and_name_no_other_server(client: Client) -> None:
    response = client.get("/api/v1/docs")
    assert response.status_code == 200
    page = response.content.decode()
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(loaded) >= 3
    assert all(address.startswith(("/static/", "/api/v1/docs?script")) for address in loaded)
    page += client.get("/api/v1/docs?script=").content.decode()
    assert not re.search(r"https?://", page)
    assert re.search(r'"validatorUrl": null', page), "the badge would come from a validator on the internet"


@pytest.mark.parametrize(
    "name", ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"]
)
def test_docs_find_their_files_on_this_machine(name: str) -> None:
    assert finders.find(f"drf_spectacular_sidecar/swagger-ui-dist/{name}")


def test_schema_is_public_and_describes_both_ways_to_sign_in(client: Client) -> None:
    schema = client.get("/api/v1/schema", headers={"accept": "application/vnd.oai.openapi+json"}).json()
    schemes: dict[str, Any] = schema["components"]["securitySchemes"]
    assert schemes["clerkSession"]["scheme"] == "bearer"
    assert schemes["staffSession"]["in"] == "cookie"


def test_schema_ignores_credentials(client: Client) -> None:
    assert client.get("/api/v1/schema", headers={"authorization": "Bearer x"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/v1/schema"), ("POST", "/api/v1/docs"), ("OPTIONS", "/api/v1/docs")]
)
def test_schema_and_docs_asked_with_another_method_are_405(method: str, path: str) -> None:
    assert Client(enforce_csrf_checks=True).generic(method, path).status_code == 405


@pytest.mark.django_db
def test_home_page_links_lead_to_pages_that_exist(client: Client) -> None:
    links = re.findall(r'<a href="([^"]+)"', client.get("/").content.decode())
    assert set(links) == {"/api/v1/docs", "/api/v1/schema", "/admin/", "/healthz", "/readyz"}
    assert {client.get(link, follow=True).status_code for link in links} == {200}
