"""The base class of models whose rows belong to one tenant."""

from typing import Any, ClassVar

from django.db import models

from tenants.models import Tenant
from tenants.scoping.context import current_tenant
from tenants.scoping.managers import CurrentTenantId, TenantScopedManager
from tenants.scoping.writes import cross_tenant_write


class TenantOwnedModel(models.Model):
    """A row of one tenant.

    `objects` returns the rows of the current tenant only, and raises NoCurrentTenant without one; `unscoped`
    returns all rows. A new row gets the current tenant. Saving or deleting another tenant's row raises
    CrossTenantWrite.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, editable=False, related_name="+")

    objects: ClassVar[Any] = TenantScopedManager()
    unscoped: ClassVar[models.Manager[Any]] = models.Manager()

    _updates_are_checked = True
    """By `_do_update`, in the UPDATE itself; see `tenants.scoping.stored_rows`."""

    class Meta:
        abstract = True

    def _do_update(self, base_qs: Any, using: Any, pk_val: Any, *args: Any) -> Any:
        """Update the row if the stored row belongs to the current tenant, whatever `tenant` is in memory."""
        update = super()._do_update
        if current_tenant() is None:  # Scopes are disabled, or a fixture is loaded.
            return update(base_qs, using, pk_val, *args)
        updated = update(base_qs.filter(tenant=CurrentTenantId()), using, pk_val, *args)
        if not updated and base_qs.filter(pk=pk_val).exclude(tenant=CurrentTenantId()).exists():
            raise cross_tenant_write(self)
        return updated
