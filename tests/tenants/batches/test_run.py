"""The steps for a few selected tenants, carried out in the request."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now

from clerk_integration.exceptions import ClerkMisconfigured, ClerkRateLimited, ClerkRejected, ClerkUnavailable
from tenants.batches.run import MAX_TENANTS, OUT_OF_TIME, Failure, Report, carry_out, needs_workers
from tenants.batches.steps import STEPS, Step
from tenants.models import Membership, Tenant, TenantHistory


def failing(error: Exception, *names: str) -> Step:
    """Return a step that raises the error for the tenants with these names."""

    def run(tenant: Tenant, **_: Any) -> None:
        if tenant.name in names:
            raise error

    return Step("test", "Test", "tested", "tenants.sync_tenant", run)


def unsaved(names: str) -> list[Tenant]:
    return [Tenant(pk=number, name=name) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ClerkUnavailable("down"), "Clerk is unavailable."),
        (ClerkRateLimited("slow down", retry_after=9), "Clerk is unavailable."),
        (ClerkMisconfigured("no key"), "The connection to Clerk is misconfigured."),
    ],
)
def test_carry_out_error_that_every_tenant_would_meet_stops(failure: Exception, reason: str) -> None:
    report = carry_out(failing(failure, "b"), unsaved("abcd"), acting_user=None)

    failures = [Failure(1, "b", str(failure))]
    assert report == Report(done=1, failures=failures, not_tried=2, stop_reason=reason)


def test_carry_out_error_of_one_tenant_continues() -> None:
    refusal = ClerkRejected("slug taken", code="form_identifier_exists", status_code=422)
    report = carry_out(failing(refusal, "b"), unsaved("abcd"), acting_user=None)

    assert report == Report(done=3, failures=[Failure(1, "b", "slug taken")])


def test_carry_out_out_of_time_starts_no_tenant() -> None:
    report = carry_out(failing(ZeroDivisionError()), unsaved("ab"), acting_user=None, seconds=0)
    assert report == Report(not_tried=2, stop_reason=OUT_OF_TIME)


def test_carry_out_unexpected_error_of_one_tenant_continues(caplog: pytest.LogCaptureFixture) -> None:
    report = carry_out(failing(ZeroDivisionError("secret"), "b"), unsaved("abc"), acting_user=None)

    reason = "unexpected error ZeroDivisionError; the log has the details."
    assert report == Report(done=2, failures=[Failure(1, "b", reason)])
    assert caplog.records[0].exc_info is not None


def test_carry_out_the_same_unexpected_error_in_a_row_stops() -> None:
    report = carry_out(failing(ZeroDivisionError(), *"abcdefghi"), unsaved("abcdefghi"), acting_user=None)

    assert (report.done, len(report.failures), report.not_tried) == (0, 5, 4)
    assert "in a row" in report.stop_reason


def test_carry_out_more_tenants_than_a_request_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        carry_out(failing(ZeroDivisionError()), unsaved("x" * (MAX_TENANTS + 1)), acting_user=None)


@pytest.fixture
def one_of_each(legacy: Callable[..., Tenant]) -> list[Tenant]:
    """Every kind of tenant: legacy or linked, in each status, and deleted in Clerk."""
    tenants = [
        legacy(f"{status} {org}", status=status, clerk_org_id=org and f"{org}_{status}")
        for status in Tenant.Status
        for org in (None, "org")
    ]
    deleted = legacy("gone", clerk_org_id="org_gone", status="deactivated", deleted_at=Now())
    return [*tenants, Tenant.objects.get(pk=deleted.pk)]


@pytest.mark.parametrize("key", STEPS)
def test_step_reasons_are_the_same_for_a_tenant_and_in_a_query(key: str, one_of_each: list[Tenant]) -> None:
    step, tenants = STEPS[key], Tenant.objects.order_by("name")
    reasons = [step.why_not(tenant) for tenant in one_of_each]

    applicable = {tenant.pk for tenant, reason in zip(one_of_each, reasons, strict=True) if not reason}
    assert set(step.applicable(tenants).values_list("pk", flat=True)) == applicable
    assert step.count_reasons(tenants) == {reason: reasons.count(reason) for reason in set(reasons)}


def test_suspend_and_reactivate_count_what_does_not_apply_and_name_staff_in_the_history(
    one_of_each: list[Tenant],
) -> None:
    staff = User.objects.create_user("ada", is_staff=True)
    report = carry_out(STEPS["suspend"], one_of_each, acting_user=staff, options={"reason": "unpaid"})

    assert (report.done, report.failures) == (6, [])
    assert report.not_applicable == {"deleted in Clerk: restore or unlink first": 1}
    assert set(Tenant.objects.filter(deleted_at=None).values_list("status", "suspension_reason")) == {
        ("suspended", "unpaid")
    }
    assert set(TenantHistory.objects.filter(action__contains="suspend").values_list("source", "actor")) == {
        ("staff", "ada")
    }

    report = carry_out(STEPS["reactivate"], Tenant.objects.all(), acting_user=staff)
    assert (report.done, report.not_applicable.total()) == (6, 1)


@pytest.mark.parametrize(("tenants", "expected"), [(1, False), (MAX_TENANTS, False), (MAX_TENANTS + 1, True)])
def test_needs_workers_for_more_tenants_than_a_request_takes(
    legacy: Callable[..., Tenant], tenants: int, expected: bool
) -> None:
    for _ in range(tenants):
        legacy()
    assert needs_workers(STEPS["suspend"], Tenant.objects.all()) is expected


@pytest.mark.django_db
def test_needs_workers_for_a_large_organization_if_the_step_reads_its_members() -> None:
    tenant = Tenant.objects.create(name="Large", clerk_org_id="org_large")
    Membership.objects.bulk_create(
        Membership(tenant=tenant, clerk_user_id=f"user_{number}", role="org:member") for number in range(501)
    )

    assert needs_workers(STEPS["sync"], Tenant.objects.all())
    assert not needs_workers(STEPS["deactivate"], Tenant.objects.all())
    assert not needs_workers(replace(STEPS["sync"], lists_members=False), Tenant.objects.all())
