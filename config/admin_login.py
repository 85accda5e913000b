"""The login form of the admin: it limits the failed logins from a client address.

| counted for                  | limit                     | protects against                               |
| ---------------------------- | ------------------------- | ---------------------------------------------- |
| the address and a user name  | ADMIN_LOGIN_LIMIT         | guessing one user's password                   |
| the address                  | ADMIN_LOGIN_ADDRESS_LIMIT | trying one password with many user names       |

Nothing is counted for a user name alone: others could lock the user out by failing on purpose. A login is
counted before its password is checked, so that many logins at once are not more guesses; a successful login
is then not counted.

The counts are those of the API's limits, in PostgreSQL, for all processes. django-axes would add tables, a
middleware and an authentication backend, checks the password first, and stores the names that were typed,
which may be passwords.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import F
from django.http import HttpRequest
from unfold.forms import AuthenticationForm  # type: ignore[import-untyped]

from clerk_integration.conf import request_limit
from tenants.api.limits import count_request
from tenants.models import RequestCount

IPV6_PREFIX = 64
"""A client usually has a whole network of this size, so an IPv6 address is counted with its network."""


class LimitedLoginForm(AuthenticationForm):  # type: ignore[misc]  # Unfold has no types
    """Unfold's login form, with limits."""

    def clean(self) -> dict[str, Any]:
        """Check the password, unless there were too many failures; raise ValidationError."""
        user_name = self.cleaned_data.get("username")
        if not user_name or not self.cleaned_data.get("password"):
            return {}  # The fields have their errors.
        address = client_address(self.request)
        wait = max(_waits(address, user_name))
        if wait > 0:
            raise ValidationError(_refusal(wait), code="throttled")
        cleaned: dict[str, Any] = super().clean()
        keys = [key for key, _ in _limits(address, user_name)]
        RequestCount.objects.filter(key__in=keys, count__gt=0).update(count=F("count") - 1)
        return cleaned


def client_address(request: HttpRequest) -> str:
    """Return the address of the client, or its IPv6 network.

    `X-Forwarded-For` is read only up to the number of TRUSTED_PROXIES from its end: what precedes these
    entries was sent by the client. Some proxies add the port, which is another one for each connection.
    """
    address = request.META.get("REMOTE_ADDR", "")
    header = request.META.get("HTTP_X_FORWARDED_FOR", "")
    forwarded = [entry for entry in header.split(",") if entry.strip()]
    if 0 < settings.TRUSTED_PROXIES <= len(forwarded):
        address = forwarded[-settings.TRUSTED_PROXIES].strip()
    for text in (address, address.rpartition(":")[0]):
        with suppress(ValueError):
            parsed = ip_address(text.strip("[]"))
            if isinstance(parsed, IPv6Address):
                return str(parsed.ipv4_mapped or ip_network((parsed, IPV6_PREFIX), strict=False))
            return str(parsed)
    return str(address[:64])


def _limits(address: str, user_name: str) -> Iterator[tuple[str, str]]:
    """Yield the key and the setting of each limit."""
    # Not the name itself: people type their password into the wrong field.
    digest = hashlib.sha256(user_name.encode()).hexdigest()
    yield f"admin login:{address}", "ADMIN_LOGIN_ADDRESS_LIMIT"
    yield f"admin login:{address}:{digest}", "ADMIN_LOGIN_LIMIT"


def _waits(address: str, user_name: str) -> Iterator[float]:
    """Count the login for each limit; yield how many seconds it must wait, 0 if it need not."""
    for key, setting in _limits(address, user_name):
        limit = request_limit(setting)
        if limit is None:
            yield 0.0
            continue
        number, period = limit
        count, wait = count_request(key, period)
        yield wait if count > number else 0.0


def _refusal(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    wait = "1 minute" if minutes == 1 else f"{minutes} minutes"
    return (
        "There were too many failed logins from your address. The password was not checked."
        f" Try again in {wait}."
    )
