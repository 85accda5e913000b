"""What a person does in a window: press a button, and be refused."""

import re

from django.urls import reverse
from playwright.sync_api import Page, expect

from tenants.models import Tenant


def page_of(tenant: Tenant) -> str:
    return reverse("admin:tenants_tenant_change", args=[tenant.pk])


def press(page: Page, label: str) -> None:
    """Press a button, which may be a link that looks like one."""
    page.locator(".tenants-button").filter(has_text=re.compile(f"^{re.escape(label)}$")).click()


def refused(page: Page, url: str, **entered: str) -> None:
    """Check that the person may neither open the page nor send its form."""
    response = page.goto(url)
    assert response is not None
    assert response.status == 403
    expect(page.locator("body")).to_contain_text("403 Forbidden")
    refused_post(page, url, **entered)


def refused_post(page: Page, url: str, **entered: str) -> None:
    """Check that the person may not send the form, although the token against forgery is right."""
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    sent = page.request.post(url, form={"csrfmiddlewaretoken": cookies["csrftoken"], **entered})
    assert sent.status == 403
    assert "CSRF" not in sent.text()
