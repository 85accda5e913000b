"""How often a login to the admin may fail."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from pytest_django import Settings

from config.admin_login import client_address
from tenants.models import RequestCount

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/admin/login/"


@pytest.fixture(autouse=True)
def users(settings: Settings) -> None:
    settings.ADMIN_LOGIN_LIMIT, settings.ADMIN_LOGIN_ADDRESS_LIMIT = "3/hour", "5/hour"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for name in ("ada", "grace"):
        User.objects.create_user(name, password="right", is_staff=True)


def log_in(name: str, password: str, address: str = "192.0.2.1", **headers: str) -> Any:
    client = Client(REMOTE_ADDR=address, headers=headers)
    return client.post(LOGIN, {"username": name, "password": password})


def fail(times: int, name: str = "ada", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        assert "correct username and password" in log_in(name, "wrong", address).content.decode()


def is_refused(response: Any) -> bool:
    return "too many failed logins" in response.content.decode()


def test_login_after_too_many_failures_is_refused_with_the_wait() -> None:
    fail(3)

    response = log_in("ada", "right")

    assert "The password was not checked. Try again in 60 minutes." in response.content.decode()
    assert not response.wsgi_request.user.is_authenticated


def test_login_failures_on_another_address_do_not_lock_the_user_out() -> None:
    for number in range(2, 5):
        fail(3, address=f"192.0.2.{number}")

    assert log_in("ada", "right").status_code == 302


def test_login_failures_of_another_name_count_for_the_address_only() -> None:
    fail(3)
    assert log_in("grace", "right").status_code == 302
    fail(2, "grace")

    assert is_refused(log_in("grace", "right"))
    assert log_in("grace", "right", "192.0.2.2").status_code == 302


def test_login_that_succeeds_is_not_counted() -> None:
    for _ in range(4):
        fail(1, "grace" if RequestCount.objects.filter(count=2).exists() else "ada")
        assert log_in("grace", "right").status_code == 302


def test_login_without_a_password_is_not_counted() -> None:
    log_in("ada", "")

    assert not RequestCount.objects.exists()


def test_login_many_at_once_check_no_more_passwords_than_the_limit(settings: Settings) -> None:
    settings.ADMIN_LOGIN_ADDRESS_LIMIT = "100/hour"  # Otherwise, it may refuse one of the three, too.

    def guess(_: int) -> bool:
        try:
            return is_refused(log_in("ada", "wrong"))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(guess, range(12)))

    assert refused.count(False) == 3


def test_login_counts_store_no_typed_name() -> None:
    log_in("my-password-by-mistake", "x")

    assert not any("my-password" in key for key in RequestCount.objects.values_list("key", flat=True))


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "expected"),
    [
        (0, "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (1, "192.0.2.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (2, "192.0.2.1", "6.6.6.6, 198.51.100.7, 192.0.2.2", "198.51.100.7"),
        (2, "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (1, "192.0.2.1", "", "192.0.2.1"),
        (1, "192.0.2.1", "198.51.100.7:4711", "198.51.100.7"),
        (1, "192.0.2.1", "[2001:db8:1:2::3]:4711", "2001:db8:1:2::/64"),
        (1, "192.0.2.1", "unknown", "unknown"),
        (0, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        (0, "::ffff:192.0.2.1", "", "192.0.2.1"),
        (0, "", "", ""),
    ],
)
def test_client_address_trusts_only_the_entries_of_trusted_proxies(
    settings: Settings, proxies: int, remote: str, forwarded: str, expected: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory(REMOTE_ADDR=remote, headers=headers).get("/")

    assert client_address(request) == expected
