"""The pictures of the documentation, taken on request: `DOCS_IMAGES=1 pytest -m slow tests/browser`."""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from io import StringIO
from itertools import cycle, product
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db.models import F
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from clerk_integration.models import WebhookDelivery
from tenants import services
from tenants.batches.run import start
from tenants.batches.steps import STEPS
from tenants.models import Membership, SyncRun, Tenant, TenantHistory
from tests.browser.conftest import WIDE, OpenPage
from tests.browser.logos import draw_logo
from tests.browser.person import page_of
from tests.browser.site import ADMINISTRATORS, Site, running_site, staff
from tests.workers import wait_until

IMAGES = settings.BASE_DIR / "docs" / "images"
MAX_BYTES = 150_000
HEIGHT = 720

FIRST_WORDS = ("Harbour", "Maple", "Northgate", "Kestrel", "Juniper", "Granite", "Lakeside", "Copper")
LAST_WORDS = ("Logistics", "Bakery", "Printing", "Energy", "Textiles", "Optics", "Foods")
LEGACY = ("Old Mill Ceramics", "Riverside Cycles", "Summit Outdoor")
EVENTS = ("organization.updated", "organizationMembership.created", "organizationMembership.updated")
ERROR = "Traceback (most recent call last):\n  ...\nclerk_integration.exceptions.ClerkUnavailable: {}\n"

pytestmark = pytest.mark.skipif(
    "DOCS_IMAGES" not in os.environ, reason="takes the pictures of docs/images only if DOCS_IMAGES is set"
)


@pytest.fixture(scope="module")
def running(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A deployment with nothing but the rows of the pictures."""
    with django_db_blocker.unblock():
        name = f"test_tenants_images_{os.getpid()}"
        with running_site(tmp_path_factory.mktemp("images"), name) as site:
            with site.entered():
                make_rows(site)
            django_db_blocker.restore()
            yield site
            django_db_blocker.unblock()


def make_rows(site: Site) -> None:
    """Make companies, their changes, and the deliveries of two weeks."""
    users = [site.clerk.user()["id"] for _ in range(9)]
    for number, (first, last) in enumerate(product(FIRST_WORDS, LAST_WORDS)):
        name = f"{first} {last}"
        organization = site.clerk.organization(
            name, users[number % 9], slug=name.lower().replace(" ", "-"), public_metadata={"plan": "team"}
        )
        for user in users[: number % 5]:
            if user != users[number % 9]:
                site.clerk.membership(organization["id"], user)
    call_command("sync_from_clerk", stdout=StringIO())
    for name in LEGACY:
        legacy = Tenant.objects.create(name=name, slug=name.lower().replace(" ", "-"))
        Membership.objects.create(tenant=legacy, clerk_user_id=users[0], role="owner")
    site.clerk.organization("Riverside Cycles Ltd", users[1], slug="riverside-cycles-ltd")
    change(Tenant.objects.get(name="Harbour Logistics"), Tenant.objects.get(name="Maple Foods"))
    spread_over_two_weeks()


def change(tenant: Tenant, deactivated: Tenant) -> None:
    """Do what staff do in two weeks."""
    person = staff(ADMINISTRATORS)
    services.deactivate(deactivated, acting_user=person)
    services.suspend(tenant, reason="The invoice of October is not paid.", acting_user=person)
    services.reactivate(tenant, acting_user=person)
    services.rename(tenant, name="Harbour Logistics Group", acting_user=person)
    for suspended in Tenant.objects.filter(name__endswith="Optics")[:2]:
        services.suspend(suspended, reason="Asked to be closed.", acting_user=person)


def spread_over_two_weeks() -> None:
    """Store deliveries of the last two weeks, and spread the changes over them."""
    now = timezone.now()
    tenants = list(Tenant.objects.exclude(clerk_org_id=None))
    deliveries = []
    for number, (tenant, event) in enumerate(zip(tenants * 3, cycle(EVENTS), strict=False)):
        received = now - timedelta(hours=2 * number, minutes=17 * number % 60)
        is_failed = number in {1, 6, 40, 41}
        reason = "the reply did not arrive within 30 seconds"
        deliveries.append(
            WebhookDelivery(
                svix_id=f"msg_{number:04}",
                event_type=event,
                organization_id=tenant.clerk_org_id,
                payload={"object": "event", "type": event, "data": {"id": tenant.clerk_org_id}},
                status="failed" if is_failed else "processed",
                error=ERROR.format(reason) if is_failed else "",
                attempts=8 if is_failed else 1,
                received_at=received,
                processed_at=None if is_failed else received + timedelta(milliseconds=140),
                due_at=None,
            )
        )
    WebhookDelivery.objects.bulk_create(reversed(deliveries))
    for number, row in enumerate(TenantHistory.objects.order_by("-pk")[:90]):
        TenantHistory.objects.filter(pk=row.pk).update(at=now - timedelta(hours=3.5 * number))
    SyncRun.objects.update(
        started_at=F("started_at") - timedelta(hours=3), finished_at=F("finished_at") - timedelta(hours=3)
    )


def show_dashboard(page: Page) -> None:
    page.goto(reverse("admin:index"))


def show_tenants(page: Page) -> None:
    page.goto(reverse("admin:tenants_tenant_changelist"))


def show_tenant(page: Page) -> None:
    page.goto(page_of(Tenant.objects.get(name="Harbour Logistics Group")))


def show_link_preview(page: Page) -> None:
    tenant = Tenant.objects.get(name="Riverside Cycles")
    page.goto(reverse("admin:tenants_tenant_do", args=[tenant.pk, "link"]) + "?q=riverside")
    page.get_by_role("link", name="Preview the link").click()


def show_run(page: Page) -> None:
    tenants = Tenant.objects.exclude(clerk_org_id=None)
    run = start(STEPS["sync"], tenants, acting_user=staff(ADMINISTRATORS))
    wait_until(lambda: done(run) >= 15)
    page.goto(reverse("admin:tenants_syncrun_change", args=[run.pk]))
    expect(page.get_by_role("progressbar")).to_be_visible()


def done(run: SyncRun) -> int:
    return sum(len(piece.outcomes) for piece in run.slices.all())


def show_deliveries(page: Page) -> None:
    page.goto(reverse("admin:clerk_integration_webhookdelivery_changelist"))


PICTURES: Mapping[str, Callable[[Page], None]] = {
    "dashboard": show_dashboard,
    "tenants": show_tenants,
    "tenant": show_tenant,
    "link-preview": show_link_preview,
    "deliveries": show_deliveries,
    "run": show_run,
}


def test_pictures_for_the_documentation_are_taken_and_small(site: Site, open_page: OpenPage) -> None:
    site.clerk.settings(latencyMs=200)  # so that the run lasts
    page = open_page(ADMINISTRATORS)
    page.route("https://img.clerk.com/**", draw_logo)
    page.set_viewport_size({"width": WIDE, "height": HEIGHT})
    for name, show in PICTURES.items():
        show(page)
        page.wait_for_load_state("networkidle")
        expect(page.locator("#content")).to_be_visible()
        page.screenshot(path=IMAGES / f"{name}.png")
        assert (IMAGES / f"{name}.png").stat().st_size < MAX_BYTES
