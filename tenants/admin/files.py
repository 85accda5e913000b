"""The admin pages that import tenants from a file, and export the list as CSV."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core import signing
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse

from tenants.admin.actions.buttons import may
from tenants.admin.pages import render_page
from tenants.admin.spreadsheets import csv_response
from tenants.exceptions import SyncError, TenantError
from tenants.files.imports import Imported, check_file, import_tenants
from tenants.models import Tenant

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Tenant]
else:
    Base = object

IMPORT_PERMISSION = "tenants.migrate_tenant"
TEMPLATE = "admin/tenants/import.html"

MAX_BYTES = 512 * 1024
"""Size of a file that is imported in a request: some 7,000 lines, and a second.

The confirmation sends the file again, signed: compressed and encoded, it has up to 1.7 times this size. Both
requests must stay below the 1 MiB that the web server accepts.
"""

CONFIRM_WITHIN_SECONDS = 3600
SALT = "tenants.admin.files"

EXPORTED = (
    *("id", "name", "slug", "status", "suspension_reason", "clerk_org_id", "external_id"),
    *("members_count", "created_at", "updated_at", "last_synced_at", "deleted_at"),
)
CHUNK = 2000
"""Rows that the export reads at a time."""


class UploadForm(forms.Form):
    """Asks for the file."""

    file = forms.FileField(
        label="File",
        help_text=(
            "CSV with a line for each member: external_id, name, and optionally slug, status, user_id and"
            " role; or JSONL with a line for each tenant. UTF-8, at most 512 KiB. Nothing is written before"
            " you confirm."
        ),
        widget=forms.FileInput(attrs={"accept": ".csv,.jsonl"}),
    )

    def clean_file(self) -> Any:
        """Return the file; raise ValidationError if it is too large, or of another kind."""
        file = self.cleaned_data["file"]
        if Path(file.name).suffix.lower() not in (".csv", ".jsonl"):
            raise ValidationError("The file is neither .csv nor .jsonl. Nothing was changed.")
        if file.size > MAX_BYTES:
            raise ValidationError(
                f"The file has {file.size:,} bytes; at most {MAX_BYTES:,} can be imported here. Nothing was"
                " changed. Use the command: manage.py import_tenants FILE"
            )
        return file


class TenantFiles(Base):
    """Adds the pages `import/` and `export/`, and the buttons of the list that lead to them."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages. An import commits in batches, so ATOMIC_REQUESTS must not wrap it."""
        importing = transaction.non_atomic_requests(self.admin_site.admin_view(self.import_view))
        exporting = self.admin_site.admin_view(self.export_view)
        return [
            path("import/", importing, name="tenants_tenant_import"),
            path("export/", exporting, name="tenants_tenant_export"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with buttons."""
        filters = request.GET.urlencode()
        buttons = [
            ("Dashboard", reverse("admin:tenants_dashboard")),
            ("Export as CSV", reverse("admin:tenants_tenant_export") + (f"?{filters}" if filters else "")),
        ]
        if may(request, IMPORT_PERMISSION):
            buttons.append(("Import a file", reverse("admin:tenants_tenant_import")))
        return super().changelist_view(request, {"buttons": buttons, **(extra_context or {})})

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the tenants of the list, as it is filtered, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            tenants = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect("admin:tenants_tenant_changelist")
        return csv_response("tenants.csv", EXPORTED, exported_rows(tenants))

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a file; show what it would create, or its errors; import it when this is confirmed."""
        if not may(request, IMPORT_PERMISSION):
            raise PermissionDenied
        if "preview" in request.POST:
            return self._confirm(request)
        form = UploadForm(request.POST or None, request.FILES or None)
        if not form.is_valid():
            return self._page(request, form=form)
        name, content = form.cleaned_data["file"].name, form.cleaned_data["file"].read()
        try:
            counts = _with_file(name, content, check)
        except TenantError as error:
            return self._page(request, form=form, problems=_problems(error), name=name)
        return self._page(request, counts=counts, name=name, preview=_signed(request, name, content))

    def _confirm(self, request: HttpRequest) -> HttpResponse:
        try:
            name, content = _unsigned(request, request.POST["preview"])
        except signing.BadSignature:
            problem = "The preview is more than an hour old. Nothing was changed. Choose the file again."
            return self._page(request, form=UploadForm(), problems=[problem])
        try:
            imported = _with_file(
                name,
                content,
                lambda file: import_tenants(
                    file, stopping=Event(), advance=lambda lines: None, acting_user=request.user
                ),
            )
        except (TenantError, SyncError) as error:
            return self._page(request, form=UploadForm(), problems=_problems(error), name=name)
        messages.success(request, _report(name, imported))
        return redirect("admin:tenants_tenant_changelist")

    def _page(self, request: HttpRequest, **context: Any) -> HttpResponse:
        status = 400 if context.get("problems") else 200
        return render_page(self, request, TEMPLATE, title="Import tenants", status=status, **context)


def exported_rows(tenants: QuerySet[Tenant]) -> Iterator[Sequence[object]]:
    """Yield the values of EXPORTED for each tenant.

    Reads CHUNK rows at a time, by their ids: a cursor in the database would not work behind PgBouncer.
    """
    rows = tenants.order_by("pk").values_list(*EXPORTED)
    last = 0
    while chunk := list(rows.filter(pk__gt=last)[:CHUNK]):
        yield from chunk
        last = chunk[-1][0]


def check(file: Path) -> Imported:
    """Check the file and count what it would create; write nothing."""
    return check_file(file, advance=lambda lines: None)


def _with_file(name: str, content: bytes, read: Any) -> Imported:
    """Call `read` with the content as a file; name the file in its errors as the user does."""
    with TemporaryDirectory() as directory:
        file = Path(directory, f"tenants{Path(name).suffix.lower()}")
        file.write_bytes(content)
        try:
            imported: Imported = read(file)
        except TenantError as error:
            raise type(error)(str(error).replace(str(file), name)) from error
        return imported


def _signed(request: HttpRequest, name: str, content: bytes) -> str:
    """Return the file, signed for this user: any web process can import exactly what the preview showed."""
    return signing.dumps([str(request.user.pk), name, content.decode("latin-1")], salt=SALT, compress=True)


def _unsigned(request: HttpRequest, preview: str) -> tuple[str, bytes]:
    """Return the name and the content; raise BadSignature if they are old, changed or of another user."""
    user_id, name, content = signing.loads(preview, salt=SALT, max_age=CONFIRM_WITHIN_SECONDS)
    if user_id != str(request.user.pk):
        raise signing.BadSignature
    return name, content.encode("latin-1")


def _problems(error: Exception) -> list[str]:
    return str(error).splitlines()


def _report(name: str, imported: Imported) -> str:
    left = imported.differs_left_alone
    kept = f" Left unchanged, because it differs here: {_count(left, 'tenant')}." if left else ""
    return (
        f"Imported from {name}: {_count(imported.tenants_created, 'tenant')} and"
        f" {_count(imported.members_created, 'member')}.{kept}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
