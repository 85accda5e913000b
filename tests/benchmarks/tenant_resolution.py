"""What a request's tenant costs: statements, and time beside a request that needs the user only."""

import argparse
from collections.abc import Callable

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from tenants.models import Membership, Tenant
from tenants.scoping.middleware import TenantMiddleware
from tenants.scoping.requests import scope_of
from tenants.scoping.resolution import forget_memberships
from tests import tokens
from tests.benchmarks._report import Report
from tests.benchmarks._turns import seconds_of, take_turns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the number of rounds."""
    parser.add_argument("--rounds", type=int, default=300, help="rounds of 20 requests for each way")


def run(arguments: argparse.Namespace) -> Report:
    """Send requests through the middleware: by the token from the cache and not, by the header, user only."""
    settings.CLERK_JWT_KEY, settings.CLERK_ISSUER = tokens.public_pem(), tokens.ISSUER
    tenant = Tenant.objects.create(name="Acme", clerk_org_id=tokens.ORGANIZATION_ID)
    Membership.objects.create(tenant=tenant, clerk_user_id=tokens.USER_ID, role="org:admin")
    organization = {"id": tokens.ORGANIZATION_ID, "rol": "admin", "slg": "acme"}
    bearer = {"Authorization": f"Bearer {tokens.session_token(o=organization, exp=2**33)}"}
    by_header = bearer | {"X-Tenant-Id": str(tenant.pk)}

    def sender(
        headers: dict[str, str], *, needs_tenant: bool = True, cached: bool = True
    ) -> Callable[[], None]:
        def view(request: HttpRequest) -> HttpResponse:
            scope = scope_of(request)
            assert scope is not None
            assert scope.user is not None
            assert not needs_tenant or scope.tenant == tenant
            return HttpResponse()

        middleware, factory = TenantMiddleware(view), RequestFactory()

        def send() -> None:
            if not cached:
                forget_memberships()
            middleware(factory.get("/", headers=headers))

        return send

    ways = {
        "tenant from the cache": sender(bearer),
        "tenant from the database": sender(bearer, cached=False),
        "tenant by header": sender(by_header),
        "user only": sender(bearer, needs_tenant=False),
    }
    report = Report()
    statements = {way: _statements(send) for way, send in ways.items()}
    report.figures["statements"] = statements
    measured = {way: seconds_of(send, times=20) for way, send in ways.items()}
    turns = take_turns(measured, rounds=5 if arguments.quick else arguments.rounds)
    report.compare("a request", turns, unit="ms", scale=1000)
    report.require("none from the cache", statements["tenant from the cache"] == 0)
    report.require("at most one statement a request", max(statements.values()) <= 1)
    return report


def _statements(send: Callable[[], None]) -> int:
    send()
    with CaptureQueriesContext(connection) as captured:
        send()
    return len(captured)
