"""Every page of the admin, wide and narrow, light and dark, with texts that try to break it.

Writes `screenshots/<page>-<width>-<scheme>.png`.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from playwright.sync_api import Page, Response

from tests.browser.conftest import WIDE, OpenPage
from tests.browser.pages import APPS, DJANGOS, NO_PAGES, PAGES, REFUSED, SECRET, Rows, make_rows
from tests.browser.site import ADMINISTRATORS, Site

SCREENSHOTS = settings.BASE_DIR / "screenshots"
NARROW = 390
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
FROM = {name: pages for pages in PAGES.values() for name in pages}


@pytest.fixture(scope="session")
def rows(running: Site, django_db_blocker: Any) -> Rows:
    """The rows of the pages."""
    with django_db_blocker.unblock(), running.entered():
        return make_rows(running.clerk)


def names_of_admin_urls() -> Iterator[str]:
    [admin] = [one for one in get_resolver().url_patterns if getattr(one, "namespace", None) == "admin"]
    assert isinstance(admin, URLResolver)
    for pattern in admin.url_patterns:
        inner = pattern.url_patterns if isinstance(pattern, URLResolver) else [pattern]
        yield from (one.name for one in inner if isinstance(one, URLPattern) and one.name)


def test_every_page_of_ours_is_in_the_list_of_pages() -> None:
    ours = {name for name in names_of_admin_urls() if name.startswith(APPS)} | {"index", "app_list"}
    listed = {*PAGES, *NO_PAGES}
    assert {name for name in ours - listed if not name.endswith((*REFUSED, *DJANGOS))} == set()
    assert listed - ours == set()


@pytest.mark.parametrize("name", FROM)
def test_page_with_hostile_texts_is_harmless_and_fits_every_window(
    site: Site, open_page: OpenPage, rows: Rows, name: str
) -> None:
    page = open_page(ADMINISTRATORS)
    found = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        response = page.goto(FROM[name][name](rows))
        assert response is not None
        assert response.status == 200
        check_protection(response)
        check_secrets(site, page)
        for width in (WIDE, NARROW):
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
            found += [(scheme, width, one) for one in overflowing(page)]
        found += [(scheme, 0, one) for one in inaccessible(page)]
    assert found == []


def check_protection(response: Response) -> None:
    """Check that no other site may frame the page, and that each form carries a token against forgery."""
    headers = response.headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    for form in re.findall(r'<form[^>]*method="post".*?</form>', response.text(), re.DOTALL | re.IGNORECASE):
        assert 'name="csrfmiddlewaretoken"' in form


def check_secrets(site: Site, page: Page) -> None:
    """Check that the page has neither a key nor private metadata."""
    shown = page.content()
    secrets = [site.clerk.description[name] for name in ("secretKey", "webhookSigningSecret")]
    for secret in (*secrets, SECRET, settings.SECRET_KEY, "sk_test_", "whsec_"):
        assert secret not in shown


OVERFLOWING = """() => {
    const boxes = [...document.querySelectorAll(".tenants-page, .tenants-card, .tenants-buttons, #content")];
    const wide = boxes.filter((box) => box.getBoundingClientRect().right > innerWidth + 1);
    const pages = document.scrollingElement.scrollWidth > innerWidth ? ["the page scrolls"] : [];
    return [...pages, ...wide.map((box) => box.className || box.id)];
}"""


def overflowing(page: Page) -> list[str]:
    """Return what is wider than the window. Tables scroll in a box of their own."""
    return list(page.evaluate(OVERFLOWING))


def inaccessible(page: Page) -> list[str]:
    """Return what axe-core calls serious or critical."""
    result = Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in result.response["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
