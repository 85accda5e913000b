"""Signing in to the admin."""

from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.site import OPERATORS, PASSWORD, Site, staff


def test_sign_in_with_the_right_password_leads_to_the_dashboard(site: Site, open_page: OpenPage) -> None:
    staff(OPERATORS)
    page = open_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill(OPERATORS)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Please enter the correct username and password")).to_be_visible()

    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    expect(page).to_have_title("Dashboard | Tenants")
    expect(page.locator("#dashboard-tenants")).to_be_visible()
