"""User models of projects: without staff, with other permissions than Django's, and with other keys."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser, User
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest
from django.test import RequestFactory
from django.test.utils import isolate_apps
from django.urls import resolve

from tenants import services
from tenants.admin.tenants import TenantAdmin
from tenants.models import Tenant, TenantHistory

pytestmark = pytest.mark.django_db(transaction=True)

IMPORT = "/admin/tenants/tenant/import/"


def api(path: str, user: Any) -> Any:
    """Send a GET with the Django session of a user, and return the answer."""
    request = RequestFactory().get(f"/api/v1{path}")
    request.user = user
    view = resolve(request.path)
    return view.func(request, *view.args, **view.kwargs)


@isolate_apps("tests.example_app")
def test_api_session_of_a_user_model_without_staff_is_not_signed_in() -> None:
    class Member(AbstractBaseUser):
        class Meta:
            app_label = "example_app"

    class Chief(Member):
        is_staff = True  # and no `has_perm`

        class Meta:
            app_label = "example_app"

    assert api("/tenants/1", Member()).status_code == 401
    assert api("/tenants/1", Chief()).status_code == 401


@isolate_apps("tests.example_app")
def test_api_session_of_staff_whose_model_has_only_the_methods_that_the_admin_needs() -> None:
    class Chief(AbstractBaseUser):
        is_staff = True

        class Meta:
            app_label = "example_app"

        def has_perm(self, perm: str, obj: object = None) -> bool:
            return True

    tenant = Tenant.objects.create(name="Acme")

    assert api(f"/tenants/{tenant.pk}", Chief()).status_code == 200
    assert api(f"/tenants/{tenant.pk}/history", Chief()).status_code == 200


@isolate_apps("tests.example_app")
def test_change_by_a_user_whose_name_is_no_text_records_it() -> None:
    class Robot(AbstractBaseUser):
        USERNAME_FIELD = "pk"

        class Meta:
            app_label = "example_app"

    robot = Robot(pk=7)
    tenant = Tenant.objects.create(name="Acme")

    services.rename(tenant, name="Renamed", acting_user=robot)

    change = TenantHistory.objects.latest("id")
    assert (change.actor, change.source) == ("7", TenantHistory.Source.STAFF)


def post(user: User, **data: Any) -> HttpRequest:
    request = RequestFactory().post(IMPORT, data)
    request.user = user
    request._messages = CookieStorage(request)  # type: ignore[attr-defined]
    return request


def test_import_by_a_user_whose_key_is_a_uuid_is_checked_and_confirmed() -> None:
    user, another = (User(username=name, is_staff=True, is_superuser=True) for name in ("grace", "alan"))
    user.pk, another.pk = uuid4(), uuid4()  # type: ignore[assignment]
    page = TenantAdmin(Tenant, admin.site)
    file = SimpleUploadedFile("old.csv", b"external_id,name\na1,Acme\n")

    checked: Any = page.import_view(post(user, file=file))
    preview = checked.context_data["preview"]
    other = page.import_view(post(another, preview=preview))
    confirmed = page.import_view(post(user, preview=preview))

    assert (checked.status_code, other.status_code, confirmed.status_code) == (200, 400, 302)
    assert Tenant.objects.get().external_id == "a1"
