"""The headers that protect pages, and a browser that obeys them on every page."""

import re
import shutil
import subprocess
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from config.security_headers import ADMIN_POLICY, DATA_POLICY, PAGE_POLICY
from tenants.models import Membership, Tenant
from tests.web_server import web_server
from tests.workers import database_url

CHROMIUM = shutil.which("chromium")
MAX_PAGES = 150
NO_PAGES = re.compile(r"/logout/|/export/|/api/v1/schema$")
"""Links that end the session, or lead to a download."""
NUMBERS = re.compile(r"\d+")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/", PAGE_POLICY),
        ("/api/v1/docs", PAGE_POLICY),
        ("/nothing", PAGE_POLICY),
        ("/admin/login/", ADMIN_POLICY),
        ("/api/v1/docs?script=", DATA_POLICY),
        ("/api/v1/schema", DATA_POLICY),
        ("/api/v1/tenants", DATA_POLICY),
    ],
)
def test_response_headers_name_the_policy_of_its_kind(client: Client, path: str, policy: str) -> None:
    headers = client.get(path).headers

    assert headers["Content-Security-Policy"] == policy
    assert "unsafe-inline" not in policy or policy == ADMIN_POLICY
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "camera=()" in headers["Permissions-Policy"]


def populate() -> str:
    """Fill the lists of the admin, and return the session of a superuser."""
    legacy = Tenant.objects.create(name="Old & Sons", slug="old-sons")
    linked = Tenant.objects.create(
        name="Acme", slug="acme", clerk_org_id="org_acme", logo_url="https://img.clerk.com/acme"
    )
    for tenant in (legacy, linked):
        Membership.objects.create(tenant=tenant, clerk_user_id="user_ada", role="org:admin")
    staff = Client()
    staff.force_login(User.objects.create_superuser("root"))
    return staff.cookies["sessionid"].value


class Visitor:
    """A browser page that records what the policies of the visited pages forbid."""

    def __init__(self, page: Any, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.violations: list[str] = []
        self.visited: list[str] = []
        page.expose_function("reportViolation", self._report)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', event => reportViolation("
            "`${location.pathname}: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
        )
        page.on("pageerror", lambda error: self.violations.append(f"{page.url}: {error}"))

    def _report(self, violation: str) -> None:
        self.violations.append(violation)

    def crawl(self, *starts: str) -> None:
        """Visit the start pages and every page to which they link, one of each kind."""
        waiting = [urljoin(self.origin, start) for start in starts]
        kinds = set(map(_kind, waiting))
        while waiting and len(self.visited) < MAX_PAGES:
            self._visit(waiting.pop(0))
            for link in self.page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)"):
                if link.startswith(self.origin) and not NO_PAGES.search(link) and _kind(link) not in kinds:
                    kinds.add(_kind(link))
                    waiting.append(link)

    def _visit(self, url: str) -> None:
        response = self.page.goto(url)
        assert response.status < 400, f"{url}: {response.status}"
        self.visited.append(urlsplit(url).path)


def _kind(url: str) -> str:
    """Pages that differ in numbers, or in their query, are of one kind."""
    return NUMBERS.sub("N", urlsplit(url).path)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.django_db(transaction=True)
def test_pages_in_a_browser_break_no_policy() -> None:
    from playwright.sync_api import sync_playwright

    session, url = populate(), database_url()
    with web_server(output=subprocess.DEVNULL, DATABASE_URL=url) as port, sync_playwright() as playwright:
        origin = f"http://127.0.0.1:{port}"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": origin}])
        visitor = Visitor(context.new_page(), origin)

        visitor.crawl("/", "/api/v1/docs", "/admin/", "/admin/tenants/tenant/", "/admin/login/?next=/")

        assert visitor.violations == []
        assert len(visitor.visited) > 8
        visitor.page.goto(f"{origin}/api/v1/docs")
        visitor.page.wait_for_selector(".opblock")
        visitor.page.goto(f"{origin}/admin/")
        # Alpine.js has made the page visible, and a script that somebody injects does not run.
        assert not visitor.page.locator("html[x-cloak]").count()
        visitor.page.evaluate("document.body.setAttribute('onclick', 'window.injected = true')")
        visitor.page.evaluate("document.body.click()")
        assert visitor.page.evaluate("window.injected") is None
        assert len(visitor.violations) == 1
        browser.close()
