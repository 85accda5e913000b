"""Keep saved and deleted rows inside the current tenant."""

from collections.abc import Collection
from typing import Any

from django.db.models import Field, Model

from tenants.scoping.context import are_scopes_disabled, require_tenant
from tenants.scoping.exceptions import CrossTenantWrite


def tenant_path(model: type[Model]) -> str | None:
    """Return the lookup from a model to its tenant, such as `order__tenant`; None if it is not scoped."""
    return getattr(model._default_manager, "tenant_path", None)


def check_saved_row(sender: type[Model], instance: Model, raw: bool, using: str, **_: Any) -> None:
    """Check a row that is about to be saved; a receiver of `pre_save`. Fixtures (`raw`) are not checked."""
    path = tenant_path(type(instance))
    if path is None or raw or are_scopes_disabled():
        return
    check_row(instance)
    if "__" in path and _may_update(instance):
        check_stored_row(instance, using)


def check_row(row: Model) -> None:
    """Put a row without a tenant into the current one; raise CrossTenantWrite unless it belongs there.

    Rows that `row` refers to and that are in memory must belong there too.
    """
    path = tenant_path(type(row))
    if path is None or are_scopes_disabled():
        return
    tenant = require_tenant()
    if "__" not in path and getattr(row, _field(row, path).attname) is None:
        setattr(row, path, tenant)
    related = [field.get_cached_value(row) for field in _relations(row) if field.is_cached(row)]
    for checked in (row, *filter(None, related)):
        checked_path = tenant_path(type(checked))
        if checked_path is not None and _tenant_id(checked, checked_path) != tenant.pk:
            raise cross_tenant_write(row)


def check_deleted_row(row: Model, using: str) -> None:
    """Raise CrossTenantWrite if the row, in memory or as it is stored, belongs to another tenant."""
    path = tenant_path(type(row))
    if path is None or are_scopes_disabled():
        return
    check_row(row)
    check_stored_row(row, using)


def check_stored_row(row: Model, using: str) -> None:
    """Raise CrossTenantWrite if the stored row with the same key belongs to another tenant."""
    own = {str(tenant_path(type(row))): require_tenant().pk}
    if type(row)._base_manager.using(using).filter(pk=row.pk).exclude(**own).exists():
        raise cross_tenant_write(row)


def check_values(model: type[Model], values: dict[str, Any]) -> None:
    """Raise CrossTenantWrite if an update with these values lets a row refer to another tenant's row."""
    if are_scopes_disabled():
        return
    tenant = require_tenant()
    for name, value in values.items():
        field: Any = model._meta.get_field(name)
        if value is None or not field.is_relation or hasattr(value, "resolve_expression"):
            continue
        key = value.pk if isinstance(value, Model) else value
        target = field.related_model
        is_own_key = name in (tenant_path(model), f"{tenant_path(model)}_id")
        if is_own_key and key == tenant.pk:
            continue
        is_foreign = tenant_path(target) is not None and not target._default_manager.filter(pk=key).exists()
        if is_own_key or is_foreign:
            raise CrossTenantWrite(
                f"{field} of these rows cannot be set to {key}: it belongs to another tenant than "
                f"tenant {tenant.pk}. Nothing was saved."
            )


def check_upsert(model: type[Model], unique_fields: Collection[str]) -> None:
    """Raise CrossTenantWrite if `bulk_create` could update a row of another tenant.

    With the foreign key that leads to the tenant among `unique_fields`, PostgreSQL only updates a row that
    has the same value there as the inserted row, which is checked.
    """
    path = tenant_path(model)
    if path is None or are_scopes_disabled():
        return
    leading = path.partition("__")[0]
    pk_names = [field.name for field in model._meta.pk_fields]
    names = [one for name in unique_fields for one in (pk_names if name == "pk" else [name])]
    if leading not in {model._meta.get_field(name).name for name in names}:
        raise CrossTenantWrite(
            f"An upsert of {model._meta.label} by {', '.join(unique_fields) or 'no fields'} could update a "
            f"row of another tenant than tenant {require_tenant().pk}. Nothing was saved. Give the model a "
            f'unique constraint that includes "{leading}", and name its fields in `unique_fields`.'
        )


def cross_tenant_write(row: Model) -> CrossTenantWrite:
    """Return the error for a row that belongs to another tenant, or refers to another tenant's row."""
    return CrossTenantWrite(
        f"This {row._meta.verbose_name} ({row.pk or 'new'}) belongs to another tenant than tenant "
        f"{require_tenant().pk}, or refers to another tenant's row. Nothing was saved or deleted."
    )


def _may_update(row: Model) -> bool:
    """Return whether Django sends an UPDATE: not for a new row whose key has a default."""
    return row.pk is not None and not (row._state.adding and row._meta.pk.has_default())


def _tenant_id(row: Model, path: str) -> Any:
    *relations, last = path.split("__")
    owner: Any = row
    for name in relations:
        owner = getattr(owner, name)
        if owner is None:
            return None
    return getattr(owner, _field(owner, last).attname)


def _field(row: Model, name: str) -> Any:
    return row._meta.get_field(name)


def _relations(row: Model) -> list[Any]:
    fields: tuple[Field[Any, Any], ...] = row._meta.concrete_fields
    return [field for field in fields if field.is_relation]
