"""What staff do with many tenants, with files, runs and deliveries."""

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import FilePayload, Page, expect

from clerk_integration.models import WebhookDelivery
from tenants.models import SyncRun, Tenant
from tests.browser.conftest import OpenPage
from tests.browser.person import press, refused_post
from tests.browser.site import OPERATORS, VIEWERS, Site
from tests.tenants.admin.actions.conftest import mirrored
from tests.workers import wait_until

TENANTS = "/admin/tenants/tenant/"
RUN_SECONDS = 60_000


def select_all(page: Page, name: str, action: str) -> None:
    """Select all rows that the list finds, across its pages, and run the action."""
    page.goto(f"{TENANTS}?q={name}")
    page.locator("#action-toggle").check()
    page.get_by_role("link", name="Select all 300 tenants").click()
    page.locator("select[name=action]").select_option(label=action)
    page.get_by_role("button", name="Run", exact=True).click()


def started_run(page: Page) -> SyncRun:
    page.wait_for_url("**/syncrun/*/change/")
    return SyncRun.objects.get(pk=page.url.rstrip("/").split("/")[-2])


def done(run: SyncRun) -> int:
    return sum(len(piece.outcomes) for piece in run.slices.all())


def test_batch_of_300_whose_worker_is_killed_continues_with_the_window_closed_and_ends(
    site: Site, open_page: OpenPage
) -> None:
    tenants = Tenant.objects.bulk_create(Tenant(name=f"Cobalt {number}") for number in range(300))
    page = open_page(OPERATORS)
    select_all(page, "Cobalt", "Suspend")
    expect(page.get_by_role("heading", name="300 tenants", exact=True)).to_be_visible()
    page.get_by_label("Reason").fill("The contract has ended.")
    press(page, "Suspend")
    run = started_run(page)
    page.close()

    wait_until(lambda: done(run) >= 20)
    site.workers.kill()
    assert done(run) < 300
    page = open_page(OPERATORS)
    page.goto(reverse("admin:tenants_syncrun_change", args=[run.pk]))
    expect(page.get_by_role("progressbar")).to_be_visible()
    site.workers.start()

    # The page follows the run without being loaded again by the person.
    expect(page.get_by_role("progressbar")).to_have_count(0, timeout=RUN_SECONDS)
    expect(page.get_by_role("definition").filter(has_text="300 of 300 tenants")).to_be_visible()
    ids = [tenant.pk for tenant in tenants]
    suspended = Tenant.objects.filter(pk__in=ids, status="suspended")
    assert suspended.count() == 300
    assert (SyncRun.objects.get(pk=run.pk).updated, run.slices.count()) == (300, 15)


def test_batch_that_is_cancelled_leaves_the_rest_unchanged(site: Site, open_page: OpenPage) -> None:
    Tenant.objects.bulk_create(Tenant(name=f"Indigo {number}") for number in range(300))
    site.workers.kill()
    page = open_page(OPERATORS)
    select_all(page, "Indigo", "Deactivate")
    press(page, "Deactivate")
    run = started_run(page)

    press(page, "Cancel")

    expect(page.get_by_text("What was done is kept.").first).to_be_visible()
    site.workers.start()
    expect(page.get_by_text("cancelled")).to_be_visible()
    assert Tenant.objects.filter(name__startswith="Indigo", status="active").count() == 300 - done(run)


def test_import_shows_a_preview_and_writes_when_it_is_confirmed(site: Site, open_page: OpenPage) -> None:
    page = open_page(OPERATORS)
    page.goto(TENANTS)
    page.get_by_role("link", name="Import a file").click()
    lines = (
        b"external_id,name,user_id,role\nold-1,Amber Foods,user_1,owner\nold-2,Amber Optics,user_1,owner\n"
    )
    file = FilePayload(name="old.csv", mimeType="text/csv", buffer=lines)
    page.get_by_label("File").set_input_files(file)
    press(page, "Check the file")
    expect(page.get_by_text("tenants: 2, members: 2").first).to_be_visible()
    assert not Tenant.objects.filter(external_id="old-1").exists()

    press(page, "Import")

    page.wait_for_url(lambda url: "/import/" not in url)
    assert Tenant.objects.filter(external_id__in=["old-1", "old-2"]).count() == 2


def test_dry_run_that_staff_start_is_shown_in_the_list_of_runs(site: Site, open_page: OpenPage) -> None:
    mirrored(site.clerk, "Saffron")
    page = open_page(OPERATORS)
    page.goto(reverse("admin:tenants_syncrun_changelist"))
    press(page, "Start dry run (drift)")
    press(page, "Start dry run (drift)")

    expect(page.get_by_text("The run is queued.")).to_be_visible()
    wait_until(lambda: SyncRun.objects.filter(kind="dry_run", finished_at__isnull=False).exists())
    page.reload()
    expect(page.locator("#result_list")).to_contain_text("Dry run", ignore_case=True)


def failed_delivery(site: Site) -> WebhookDelivery:
    tenant = mirrored(site.clerk, "Crimson")
    organization = site.clerk.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "Crimson Group"})
    payload = {
        "object": "event",
        "type": "organization.updated",
        "instance_id": site.clerk.description["instanceId"],
        "timestamp": organization["updated_at"],
        "data": organization,
    }
    return WebhookDelivery.objects.create(
        svix_id=f"msg_{tenant.pk}",
        event_type="organization.updated",
        organization_id=tenant.clerk_org_id,
        payload=payload,
        status="failed",
        error="OperationalError: the connection was lost",
        attempts=8,
        due_at=None,
    )


def test_failed_delivery_that_is_processed_again_changes_the_tenant(site: Site, open_page: OpenPage) -> None:
    delivery = failed_delivery(site)
    page = open_page(OPERATORS)
    page.goto(reverse("admin:clerk_integration_webhookdelivery_change", args=[delivery.pk]))
    expect(page.get_by_text("the connection was lost")).to_be_visible()

    page.get_by_role("button", name="Process again").click()

    expect(page.get_by_text("Queued for the workers: 1 delivery.")).to_be_visible()
    wait_until(lambda: WebhookDelivery.objects.get(pk=delivery.pk).status == "processed")
    assert Tenant.objects.get(clerk_org_id=delivery.organization_id).name == "Crimson Group"


def delivery_pages(site: Site) -> tuple[str, str]:
    args = [failed_delivery(site).pk]
    name = "admin:clerk_integration_webhookdelivery"
    return reverse(f"{name}_change", args=args), reverse(f"{name}_process_again", args=args)


def run_pages(site: Site) -> tuple[str, str]:
    run = SyncRun.objects.create(kind="batch", state="failed", cursor={"step": "suspend"})
    return (
        reverse("admin:tenants_syncrun_change", args=[run.pk]),
        reverse("admin:tenants_syncrun_cancel", args=[run.pk]),
    )


@pytest.mark.parametrize(
    ("pages", "label"),
    [
        (lambda site: (TENANTS, reverse("admin:tenants_tenant_import")), "Import a file"),
        (lambda site: (f"{TENANTS}?q=Acme", f"{TENANTS}do/suspend/?ids=1&list="), "Suspend"),
        (
            lambda site: ("/admin/tenants/syncrun/", "/admin/tenants/syncrun/start/dry_run/"),
            "Start dry run (drift)",
        ),
        (run_pages, "Cancel"),
        (delivery_pages, "Process again"),
    ],
    ids=["import", "batch", "dry run", "cancel", "delivery"],
)
def test_work_without_the_permission_has_no_button_and_its_url_refuses(
    site: Site, open_page: OpenPage, pages: Any, label: str
) -> None:
    page, url = pages(site)
    viewer = open_page(VIEWERS)
    response = viewer.goto(page)
    assert response is not None
    assert response.status == 200
    expect(viewer.locator("#content").get_by_text(label, exact=True)).to_have_count(0)
    refused_post(viewer, url)
    opened = viewer.request.get(url)
    assert opened.status in {403, 405}
