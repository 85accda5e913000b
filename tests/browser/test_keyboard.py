"""The page of a tenant and a confirmation, with the keyboard alone."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.person import page_of
from tests.browser.site import ADMINISTRATORS, Site
from tests.tenants.admin.actions.conftest import mirrored
from tests.tenants.admin.conftest import do_url

MAX_STEPS = 80

FOCUSED = """() => {
    const one = document.activeElement;
    const style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    return {
        text: one.innerText.trim() || one.name || "",
        isOurs: Boolean(one.closest(".tenants-page")),
        isVisible: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none" && box.height > 0,
    };
}"""


def reached(page: Page) -> list[str]:
    """Return the texts of what Tab reaches on our part of the page, in order; each must show its focus."""
    found: list[str] = []
    for _ in range(MAX_STEPS):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused["isOurs"]:
            assert focused["isVisible"], f"the focus of {focused['text']!r} cannot be seen"
            found.append(focused["text"])
        elif found:
            return found
    raise AssertionError(f"the end of the page was not reached in {MAX_STEPS} steps: {found}")


def test_tenant_page_tab_reaches_each_button_in_order_and_enter_presses_it(
    site: Site, open_page: OpenPage
) -> None:
    tenant = mirrored(site.clerk, "Ivory")
    page = open_page(ADMINISTRATORS)
    page.goto(page_of(tenant))
    buttons = page.locator(".tenants-button").all_inner_texts()
    assert {"Sync from Clerk", "Suspend", "Delete"} <= set(buttons)

    assert [text for text in reached(page) if text in buttons] == buttons

    page.get_by_role("link", name="Suspend", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{do_url('suspend', tenant)}")


def test_confirmation_is_filled_in_and_sent_with_the_keyboard(site: Site, open_page: OpenPage) -> None:
    tenant = mirrored(site.clerk, "Scarlet")
    page = open_page(ADMINISTRATORS)
    page.goto(do_url("suspend", tenant))
    page.get_by_label("Reason").focus()

    page.keyboard.type("Asked to be closed.")
    assert reached(page) == ["Suspend", "Cancel"]
    page.get_by_label("Reason").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_text("was suspended.")).to_be_visible()
