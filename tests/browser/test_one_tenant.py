"""What staff do with one tenant on its page, and what a member of staff without the permission meets."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import F
from playwright.sync_api import expect

from tenants.models import Membership, Tenant, Tombstone
from tests.browser.conftest import OpenPage
from tests.browser.logos import draw_logo
from tests.browser.person import page_of, press, refused
from tests.browser.site import OPERATORS, VIEWERS, Site
from tests.tenants.admin.actions.conftest import mirrored, recorded_as_deleted
from tests.tenants.admin.conftest import do_url


def legacy(name: str) -> Tenant:
    tenant = Tenant.objects.create(name=name)
    Membership.objects.create(tenant=tenant, clerk_user_id=f"user_of_{tenant.pk}", role="owner")
    return tenant


def deleted_by_mistake(site: Site, name: str) -> Tenant:
    tenant = recorded_as_deleted(site.clerk, name)
    # Clerk is asked again no sooner than a minute after it has answered 404.
    Tombstone.objects.filter(clerk_id=tenant.clerk_org_id).update(
        created_at=F("created_at") - timedelta(minutes=2)
    )
    return tenant


def test_sync_of_a_tenant_that_was_renamed_in_clerk_shows_the_new_name(
    site: Site, open_page: OpenPage
) -> None:
    tenant = mirrored(site.clerk, "Northwind Traders")
    site.clerk.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "Northwind Global"})
    page = open_page(OPERATORS)
    page.goto(page_of(tenant))

    press(page, "Sync from Clerk")
    expect(page.get_by_role("heading", name="What happens")).to_be_visible()
    press(page, "Sync from Clerk")

    expect(page.locator(".tenants-title")).to_have_text("Northwind Global")
    expect(page.get_by_text("was synced from Clerk.")).to_be_visible()


@pytest.mark.parametrize(("loads", "size"), [(True, 64), (False, 0)])
def test_tenant_page_shows_a_logo_and_no_broken_picture(
    site: Site, open_page: OpenPage, loads: bool, size: int
) -> None:
    page = open_page(VIEWERS)
    page.route("https://img.clerk.com/**", draw_logo if loads else lambda route: route.abort())
    page.goto(page_of(mirrored(site.clerk, "Contoso")))
    page.wait_for_load_state("networkidle")

    logo = page.locator(".tenants-logo").evaluate("image => [image.offsetWidth, image.complete]")

    assert logo == [size, True]


def test_compare_with_clerk_marks_the_difference_and_takes_clerks_side(
    site: Site, open_page: OpenPage
) -> None:
    tenant = mirrored(site.clerk, "Fabrikam")
    site.clerk.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "Fabrikam Ltd"})
    page = open_page(OPERATORS)
    page.goto(page_of(tenant))

    press(page, "Compare with Clerk")
    row = page.locator(".tenants-differs").filter(has=page.get_by_role("rowheader", name="Name"))
    expect(row).to_contain_text("Fabrikam Ltd")
    press(page, "Take Clerk's side")

    expect(page.locator(".tenants-title")).to_have_text("Fabrikam Ltd")


def test_link_through_the_search_and_unlink_lead_back_to_the_legacy_tenant(
    site: Site, open_page: OpenPage
) -> None:
    tenant = legacy("Contoso")
    organization = site.clerk.organization("Contoso Pharmaceuticals", site.clerk.user()["id"])["id"]
    page = open_page(OPERATORS)
    page.goto(page_of(tenant))

    press(page, "Link to organization")
    page.get_by_label("Search in Clerk").fill("contoso pharma")
    press(page, "Search")
    page.get_by_role("link", name=f"Preview the link to {organization}").click()
    expect(page.get_by_text("No tenant mirrors the organization yet")).to_be_visible()
    press(page, "Link to organization")

    expect(page.locator(".tenants-title")).to_have_text("Contoso Pharmaceuticals")
    expect(page.get_by_text(f"is linked to {organization}")).to_be_visible()

    press(page, "Unlink")
    press(page, "Unlink")
    expect(page.get_by_text("No organization in Clerk", exact=True)).to_be_visible()
    tenant.refresh_from_db()
    assert tenant.clerk_org_id is None


def test_create_in_clerk_of_a_legacy_tenant_shows_the_plan_and_links_it(
    site: Site, open_page: OpenPage
) -> None:
    owner = site.clerk.user()["id"]
    tenant = Tenant.objects.create(name="Tailspin Toys")
    Membership.objects.create(tenant=tenant, clerk_user_id=owner, role="owner")
    page = open_page(OPERATORS)
    page.goto(page_of(tenant))

    press(page, "Create in Clerk")
    expect(page.get_by_role("region", name="Plan")).to_contain_text(owner)
    press(page, "Create in Clerk")

    expect(page.get_by_text("was created in Clerk.")).to_be_visible()
    tenant.refresh_from_db()
    assert site.clerk.api("GET", f"/organizations/{tenant.clerk_org_id}")["name"] == "Tailspin Toys"


def test_restore_of_a_tenant_that_was_recorded_as_deleted_by_mistake_makes_it_active(
    site: Site, open_page: OpenPage
) -> None:
    tenant = deleted_by_mistake(site, "Adventure Works")
    page = open_page(OPERATORS)
    page.goto(page_of(tenant))
    expect(page.get_by_text("Deleted in Clerk").first).to_be_visible()

    press(page, "Restore")
    press(page, "Restore")

    expect(page.get_by_text("was restored.")).to_be_visible()
    tenant.refresh_from_db()
    assert (tenant.status, tenant.deleted_at) == ("active", None)


def test_suspend_needs_a_reason_and_shows_it(site: Site, open_page: OpenPage) -> None:
    tenant = mirrored(site.clerk, "Wingtip")
    page = open_page(OPERATORS)
    page.goto(page_of(tenant))

    press(page, "Suspend")
    press(page, "Suspend")
    expect(page.get_by_text("This field is required.")).to_be_visible()
    page.get_by_label("Reason").fill("The invoice of October is not paid.")
    press(page, "Suspend")

    expect(page.get_by_text("was suspended.")).to_be_visible()
    expect(
        page.get_by_role("definition").filter(has_text="The invoice of October is not paid.")
    ).to_be_visible()


@pytest.mark.parametrize(
    ("label", "action", "make"),
    [
        ("Sync from Clerk", "sync", lambda site: mirrored(site.clerk)),
        ("Link to organization", "link", lambda site: legacy("Acme")),
        ("Unlink", "unlink", lambda site: mirrored(site.clerk)),
        ("Create in Clerk", "create_in_clerk", lambda site: legacy("Acme")),
        ("Restore", "restore", lambda site: deleted_by_mistake(site, "Acme")),
        ("Suspend", "suspend", lambda site: mirrored(site.clerk)),
    ],
)
def test_action_without_the_permission_has_no_button_and_its_url_refuses(
    site: Site, open_page: OpenPage, label: str, action: str, make: Callable[[Site], Tenant]
) -> None:
    tenant = make(site)
    before = Tenant.objects.values().get(pk=tenant.pk)
    operator = open_page(OPERATORS)
    operator.goto(page_of(tenant))
    expect(operator.get_by_role("link", name=label, exact=True)).to_be_visible()

    viewer = open_page(VIEWERS)
    viewer.goto(page_of(tenant))
    expect(viewer.locator(".tenants-title")).to_have_text(tenant.name)
    expect(viewer.get_by_role("link", name=label, exact=True)).to_have_count(0)
    refused(viewer, do_url(action, tenant), reason="none", clerk_org_id="org_1")
    assert Tenant.objects.values().get(pk=tenant.pk) == before
