"""The current tenant in threads, coroutines, streamed responses and after exceptions."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.core.signals import request_finished, request_started

from tenants.models import Tenant
from tenants.scoping import NoCurrentTenant, current_tenant, require_tenant, scopes_disabled, tenant_context

ACME, GLOBEX = Tenant(pk=1, name="Acme"), Tenant(pk=2, name="Globex")


def test_tenant_context_nested_restores_the_outer_tenant() -> None:
    with tenant_context(ACME):
        with tenant_context(GLOBEX):
            assert current_tenant() == GLOBEX
        with scopes_disabled():
            assert current_tenant() is None
        assert require_tenant() == ACME
    assert current_tenant() is None


def test_tenant_context_after_an_exception_has_no_tenant() -> None:
    with pytest.raises(KeyError), tenant_context(ACME), scopes_disabled():
        raise KeyError

    with pytest.raises(NoCurrentTenant, match="tenant_context"):
        require_tenant()


def test_current_tenant_in_a_new_thread_is_none_and_its_own() -> None:
    both_inside = Barrier(2)

    def enter(tenant: Tenant) -> tuple[Tenant | None, Tenant | None]:
        before = current_tenant()
        with tenant_context(tenant):
            both_inside.wait(timeout=10)
            return before, current_tenant()

    with tenant_context(ACME), ThreadPoolExecutor(2) as threads:
        found = list(threads.map(enter, [ACME, GLOBEX]))

    assert found == [(None, ACME), (None, GLOBEX)]


def test_current_tenant_in_coroutines_is_each_one_s_own() -> None:
    async def enter(tenant: Tenant) -> Tenant | None:
        with tenant_context(tenant):
            await asyncio.sleep(0)
            return current_tenant()

    async def both() -> list[Tenant | None]:
        return list(await asyncio.gather(enter(ACME), enter(GLOBEX)))

    assert asyncio.run(both()) == [ACME, GLOBEX]


@pytest.mark.django_db
def test_request_begins_without_the_tenant_of_an_earlier_one_and_gives_the_outer_one_back() -> None:
    with tenant_context(ACME):
        request_started.send(sender=None)
        inside = current_tenant()
        request_finished.send(sender=None)
        assert (inside, current_tenant()) == (None, ACME)


def test_tenant_context_in_a_generator_does_not_leak_to_its_caller() -> None:
    def rows() -> Iterator[Tenant | None]:
        yield current_tenant()

    with tenant_context(ACME):
        generated = rows()
    assert next(generated) is None
