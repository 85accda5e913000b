"""The page that says what a step will do, asks for confirmation, carries it out and reports the failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkError
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.admin.actions.buttons import STYLES
from tenants.admin.actions.creation_plan import plan_of
from tenants.admin.actions.failures import add_failure
from tenants.admin.actions.forms import StepForm
from tenants.admin.actions.questions import QUESTIONS
from tenants.admin.actions.selection import EXAMPLES, Selection
from tenants.admin.actions.wording import counted, named
from tenants.admin.pages import render_page
from tenants.batches.run import Report, carry_out, needs_workers, start
from tenants.batches.steps import STEPS, Step
from tenants.exceptions import TenantError
from tenants.models import Tenant

TEMPLATE = "admin/tenants/actions/confirm.html"


@dataclass
class _Confirmation:
    """One request for the confirmation page of an action."""

    model_admin: ModelAdmin[Tenant]
    request: HttpRequest
    step: Step
    selection: Selection
    reasons: Mapping[str, int]
    """Numbers of tenants by the reason why the step does not apply; under "" those to which it applies."""

    @property
    def count(self) -> int:
        """The number of tenants to which the step applies."""
        return self.reasons.get("", 0)


def confirmation_page(
    model_admin: ModelAdmin[Tenant], request: HttpRequest, key: str, selection: Selection
) -> HttpResponse:
    """Show the page of a step; on a confirming POST, carry the step out.

    A failure shows the page again with the reason, and with what was entered and selected.
    """
    step = STEPS[key]
    asked = _Confirmation(model_admin, request, step, selection, step.count_reasons(selection.tenants))
    is_post = request.method == "POST"
    form = QUESTIONS[key].form(request.POST if is_post else None, selection=selection, count=asked.count)
    if not (is_post and asked.count and form.is_valid()):
        return _page(asked, form)
    if needs_workers(step, step.applicable(selection.tenants)):
        return _start(asked, form)
    return _carry_out_one(asked, form, selection.tenant) if selection.tenant else _carry_out(asked, form)


def _start(asked: _Confirmation, form: StepForm) -> HttpResponse:
    """Leave the step to the workers, for the rows that do not apply too: the run's report counts them."""
    run = start(asked.step, asked.selection.tenants, acting_user=asked.request.user, options=form.options)
    messages.success(
        asked.request,
        f"Run {run.pk} carries out “{asked.step.label}” for {counted(asked.count)} in the background. You may"
        " close this page.",
    )
    return redirect("admin:tenants_syncrun_change", run.pk)


def _carry_out_one(asked: _Confirmation, form: StepForm, tenant: Tenant) -> HttpResponse:
    done = named(tenant, f"was {asked.step.done}.")
    try:
        with clerk_deadline(clerk_settings.timeout_seconds):
            asked.step.run(tenant, acting_user=asked.request.user, options=form.options)
    except (TenantError, ClerkError) as error:
        add_failure(form, error, outcome_unknown=QUESTIONS[asked.step.key].outcome_unknown)
        return _page(asked, form)
    messages.success(asked.request, done)
    gone = not Tenant.objects.filter(pk=tenant.pk).exists()
    return redirect("admin:tenants_tenant_changelist") if gone else redirect(asked.selection.back_url)


def _carry_out(asked: _Confirmation, form: StepForm) -> HttpResponse:
    """Carry out the step in this request; show the failures, and ask again for the tenants that are left."""
    tenants = list(asked.step.applicable(asked.selection.tenants).order_by("pk"))
    report = carry_out(asked.step, tenants, acting_user=asked.request.user, options=form.options)
    left = _left(tenants, report)
    if left:
        selection = asked.selection.narrowed(asked.step.key, left)
        reasons = asked.step.count_reasons(selection.tenants)
        again = _Confirmation(asked.model_admin, asked.request, asked.step, selection, reasons)
        return _page(again, _form_again(again, form), report=report)
    messages.success(asked.request, f"{counted(report.done)} {asked.step.done}.")
    if line := not_applicable_line(asked.reasons):
        messages.info(asked.request, line)
    return redirect(asked.selection.back_url)


def _left(tenants: list[Tenant], report: Report) -> list[int]:
    """Return the ids of the tenants for which the step failed or was not tried."""
    not_tried = tenants[len(tenants) - report.not_tried :]
    return [*(failure.tenant_id for failure in report.failures), *(tenant.pk for tenant in not_tried)]


def _form_again(asked: _Confirmation, form: StepForm) -> StepForm:
    """Return the form for the tenants that are left, with what was entered."""
    entered = {name: value for name, value in form.cleaned_data.items() if name != "confirmation"}
    return type(form)(initial=entered, selection=asked.selection, count=asked.count)


def _page(asked: _Confirmation, form: StepForm, *, report: Report | None = None) -> HttpResponse:
    step, selection, question = asked.step, asked.selection, QUESTIONS[asked.step.key]
    what = f"“{selection.tenant}”" if selection.tenant else counted(asked.count)
    applicable = step.applicable(selection.tenants)
    examples = list(applicable.order_by("pk")[:EXAMPLES])
    context: dict[str, Any] = {
        "examples": examples,
        "step": step,
        "selection": selection,
        "effects": question.effects,
        "form": form,
        "count": asked.count,
        "why_not": selection.tenant and step.why_not(selection.tenant),
        "not_applicable": not_applicable_line(asked.reasons),
        "more": asked.count - len(examples),
        "style": STYLES.get(step.key, "primary"),
        "report": report,
        "in_background": asked.count and needs_workers(step, applicable),
    }
    if step.key == "create_in_clerk" and asked.count and asked.request.method == "GET":
        context["plan"] = plan = plan_of(applicable)
        if plan is not None and plan.complete:
            del form.fields["owner"]
    return render_page(
        asked.model_admin,
        asked.request,
        TEMPLATE,
        title=question.title.format(what),
        original=selection.tenant,
        **context,
    )


def not_applicable_line(reasons: Mapping[str, int]) -> str:
    """Return one line with the numbers of tenants to which a step does not apply; "" if there are none."""
    parts = [f"{number} {reason}" for reason, number in reasons.items() if reason]
    number = sum(number for reason, number in reasons.items() if reason)
    return f"Left out: {counted(number)} ({', '.join(parts)})." if parts else ""
