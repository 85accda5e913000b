"""Managers that return only the rows of the current tenant.

The tenant is not part of the queryset: it is looked up whenever SQL is made from the queryset. A queryset may
therefore be defined once, as a class attribute of a view or a form field, and used in every request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeVar, cast

from django.core.exceptions import FullResultSet, ImproperlyConfigured
from django.db.models import BigIntegerField, Expression, Manager, Model, QuerySet
from django.db.models.sql.where import AND

from tenants.scoping.context import are_scopes_disabled, require_tenant
from tenants.scoping.references import tenant_path
from tenants.scoping.related_managers import check_additions
from tenants.scoping.stored_rows import check_deletions, check_updates
from tenants.scoping.writes import check_rows, check_upsert, check_values, without_tenant

Row = TypeVar("Row", bound=Model)


class CurrentTenantId(Expression):
    """The current tenant's id; raises NoCurrentTenant without one.

    Inside `scopes_disabled`, Django leaves the condition out that compares with the id.
    """

    output_field = BigIntegerField()

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a placeholder and the id."""
        if are_scopes_disabled():
            raise FullResultSet
        return "%s", (require_tenant().pk,)


class TenantScopedQuerySet(QuerySet[Row]):
    """A queryset whose bulk writes stay inside the current tenant; `as_manager` returns a scoped manager."""

    @classmethod
    def as_manager(cls, tenant_path: str | None = None) -> Any:
        """Return a manager that is scoped by `tenant_path` and has the queryset's methods."""
        return cast(Any, TenantScopedManager).from_queryset(cls)(tenant_path)

    def bulk_create(  # noqa: PLR0917  (Django's parameters)
        self,
        objs: Iterable[Row],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Row]:
        """Insert the rows into the current tenant; raise CrossTenantWrite for another tenant's row.

        With `update_conflicts`, `unique_fields` must include the foreign key that leads to the tenant.
        """
        rows = list(objs)
        are_inserted = not (ignore_conflicts or update_conflicts)
        check_rows(rows, using=self._write_db(), may_refer_to_each_other=are_inserted)
        if update_conflicts:
            check_upsert(self.model, unique_fields or ())
        return super().bulk_create(
            rows, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
        )

    def bulk_update(self, objs: Iterable[Row], fields: Iterable[str], *args: Any, **kwargs: Any) -> int:
        """Update the current tenant's rows; raise CrossTenantWrite for another tenant's row."""
        rows, names = list(objs), list(fields)
        check_rows(rows, using=self._write_db(), written=names)
        return super().bulk_update(rows, without_tenant(self.model, names) or names, *args, **kwargs)

    def update(self, **values: Any) -> int:
        """Update the current tenant's rows; raise CrossTenantWrite if they would leave the tenant."""
        check_values(self.model, values, using=self._write_db())
        return super().update(**values)

    def _write_db(self) -> str:
        self._for_write = True
        return self.db


class TenantScopedManager(Manager[Row]):
    """Returns the rows of the current tenant, whose key is at the end of `tenant_path`."""

    _queryset_class = TenantScopedQuerySet
    tenant_path = "tenant"

    def __init__(self, tenant_path: str | None = None) -> None:
        super().__init__()
        if tenant_path is not None:
            # In the class, because Django derives the managers of reverse relations from it.
            own = type(self)
            self.__class__ = type(own.__name__, (own,), {"tenant_path": tenant_path})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the managers of reverse relations, which Django derives from this class, check added rows."""
        super().__init_subclass__(**kwargs)
        check_additions(cls)

    def contribute_to_class(self, cls: type[Model], name: str) -> None:
        """Add the manager to a model; its rows are then saved and deleted inside the current tenant only."""
        super().contribute_to_class(cls, name)
        check_updates(cls)
        check_deletions(cls)

    def get_queryset(self) -> QuerySet[Row]:
        """Return the current tenant's rows; evaluating it without a current tenant raises NoCurrentTenant."""
        return super().get_queryset().filter(**{self.tenant_path: CurrentTenantId()})


def scoped(queryset: QuerySet[Row]) -> QuerySet[Row]:
    """Return the queryset's rows of the current tenant, also if no scoped manager has made it.

    Raise ImproperlyConfigured if the model has no scoped manager.
    """
    path = tenant_path(queryset.model)
    if path is None:
        raise ImproperlyConfigured(
            f"{queryset.model._meta.label} belongs to no tenant: derive it from TenantOwnedModel, or give it "
            'a TenantScopedManager("path__to__tenant") as its default manager.'
        )
    where = queryset.query.where
    is_scoped = where.connector == AND and any(
        isinstance(getattr(child, "rhs", None), CurrentTenantId) for child in where.children
    )
    return queryset if is_scoped else queryset.filter(**{path: CurrentTenantId()})
