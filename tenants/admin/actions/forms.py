"""What the confirmation page of a step asks for."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from clerk_integration.exceptions import InvalidClerkId
from clerk_integration.wire.ids import validate_user_id
from tenants.admin.actions.selection import Selection
from tenants.batches.steps import Options

MAX_REASON_LENGTH = 1_000
"""As in the API."""


class StepForm(forms.Form):
    """Asks for nothing but the confirmation; `count` is the number of tenants that the step applies to."""

    use_required_attribute = False

    def __init__(self, *args: Any, selection: Selection, count: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.selection = selection
        self.count = count

    @property
    def options(self) -> Options:
        """The options of the step; call it on a valid form."""
        return self.cleaned_data


class SuspendForm(StepForm):
    """Asks for the reason."""

    reason = forms.CharField(
        label="Reason",
        max_length=MAX_REASON_LENGTH,
        help_text="Shown to staff and to the tenant's admins.",
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
    )


class UserIdField(forms.CharField):
    """An optional id of a Clerk user."""

    widget = forms.TextInput(attrs={"autocomplete": "off"})

    def __init__(self, **arguments: Any) -> None:
        super().__init__(required=False, **arguments)

    def clean(self, value: Any) -> str:
        """Return the id, or an empty string; raise ValidationError for a value that is no user id."""
        user_id: str = super().clean(value)
        try:
            return user_id and validate_user_id(user_id)
        except InvalidClerkId as error:
            raise ValidationError(str(error)) from error


class OwnerForm(StepForm):
    """Asks for the first member of an organization whose tenant has no owner."""

    owner = UserIdField(
        label="Owner of a tenant that has none",
        help_text="The id of a Clerk user (user_...), who becomes the first member. Only a tenant without an"
        " owner or admin needs it.",
    )


class DeleteForm(StepForm):
    """Asks whether the organization is deleted in Clerk too, and for a text that nobody types by mistake."""

    delete_clerk_organization = forms.BooleanField(label="", required=False)
    organization = forms.CharField(required=False, widget=forms.HiddenInput)
    confirmation = forms.CharField(label="", widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenant = self.selection.tenant
        in_clerk = self.fields["delete_clerk_organization"]
        self.initial["organization"] = tenant and tenant.clerk_org_id
        if tenant is None:
            in_clerk.label = "Delete their organizations in Clerk, too, with all memberships"
        elif tenant.is_legacy or tenant.deleted_at is not None:
            del self.fields["delete_clerk_organization"]
        else:
            in_clerk.label = (
                f"Delete the organization {tenant.clerk_org_id} in Clerk, too, with all memberships"
            )
        self.fields["confirmation"].label = (
            f"Type the number of tenants: {self.count}" if tenant is None else f"Type the name “{tenant}”"
        )
        self.fields["confirmation"].help_text = "" if tenant is None else f"Or type “tenant {tenant.pk}”."

    def clean_confirmation(self) -> str:
        """Return the text; raise ValidationError unless it is the tenant's name or the number of tenants."""
        tenant = self.selection.tenant
        expected = [str(self.count)] if tenant is None else [str(tenant), f"tenant {tenant.pk}"]
        given: str = self.cleaned_data["confirmation"]
        if _words(given) not in map(_words, expected):
            raise ValidationError("This is a different text. Nothing was deleted.")
        return given

    def clean(self) -> None:
        """Raise ValidationError if the page has named another organization: the tenant was linked anew."""
        tenant, shown = self.selection.tenant, self.cleaned_data.get("organization")
        if tenant is not None and shown and shown != tenant.clerk_org_id:
            now = f"linked to {tenant.clerk_org_id}" if tenant.clerk_org_id else "a legacy tenant"
            raise ValidationError(
                f"The tenant is now {now}, and not linked to {shown}. Nothing was deleted. Open this page"
                " again."
            )

    @property
    def options(self) -> Options:
        """Whether to delete the organization in Clerk."""
        return {"delete_clerk_organization": self.cleaned_data.get("delete_clerk_organization", False)}


def _words(text: str) -> list[str]:
    """Return the words: a browser shows several spaces as one."""
    return text.split()
