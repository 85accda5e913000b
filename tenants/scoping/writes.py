"""Keep saved and deleted rows inside the current tenant."""

from collections.abc import Collection, Sequence
from typing import Any

from django.db.models import Model

from tenants.scoping.context import are_scopes_disabled, current_tenant, require_tenant
from tenants.scoping.exceptions import CrossTenantWrite
from tenants.scoping.references import check_key, check_references, scoped_relations, tenant_path


def check_saved_row(
    sender: type[Model],
    instance: Model,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None = None,
    **_: Any,
) -> None:
    """Check a row that is about to be saved; a receiver of `pre_save`. Fixtures (`raw`) are not checked."""
    path = tenant_path(type(instance))
    if path is None or raw or are_scopes_disabled():
        return
    # A row may refer to itself by its id: a stored row with that id is checked before the UPDATE.
    check_rows([instance], using=using, written=update_fields, may_refer_to_each_other=True)


def check_rows(
    rows: Sequence[Model],
    *,
    using: str,
    written: Collection[str] | None = None,
    may_refer_to_each_other: bool = False,
) -> None:
    """Put rows without a tenant into the current one; raise CrossTenantWrite unless all belong there.

    The rows that they refer to must belong there too. `written` names the fields to write, None means all.
    `may_refer_to_each_other`: the rows need not be stored for that, because they are inserted together.
    """
    path = tenant_path(type(rows[0])) if rows else None
    if path is None or are_scopes_disabled():
        return
    for row in rows:
        _check_own_tenant(row, path)
    for relation in scoped_relations(type(rows[0]), path):
        check_references(rows, relation, using, written, may_refer_to_each_other)


def check_updated_row(row: Model, using: str) -> None:
    """Raise CrossTenantWrite if the row, as it is stored, belongs to another tenant. Skip fixtures."""
    # Without a current tenant, scopes are disabled, or a fixture is loaded: a save would have been refused.
    if tenant_path(type(row)) is not None and current_tenant() is not None:
        check_stored_rows([row], using)


def check_deleted_row(row: Model, using: str) -> None:
    """Raise CrossTenantWrite if the row, in memory or as it is stored, belongs to another tenant."""
    path = tenant_path(type(row))
    if path is None or are_scopes_disabled():
        return
    _check_own_tenant(row, path)
    check_stored_rows([row], using)


def check_added_rows(rows: Sequence[Model], field: Any, owner: Model, using: str) -> None:
    """Set the foreign key, if there is one, to the owner; raise CrossTenantWrite for another tenant's row.

    The owner's tenant is checked, too. A generic relation has no foreign key.
    """
    if not rows or tenant_path(type(rows[0])) is None or are_scopes_disabled():
        return
    if field is not None:
        for row in rows:
            setattr(row, field.name, owner)
        check_rows(rows, using=using, written=[field.name])
    check_stored_rows(rows, using)


def check_stored_rows(rows: Sequence[Model], using: str) -> None:
    """Raise CrossTenantWrite if a stored row with the key of one of the rows belongs to another tenant."""
    model = type(rows[0])
    stored = model._base_manager.using(using).filter(pk__in=[row.pk for row in rows])
    foreign = stored.exclude(**{str(tenant_path(model)): require_tenant().pk}).first()
    if foreign is not None:
        raise cross_tenant_write(foreign)


def check_values(model: type[Model], values: dict[str, Any], using: str) -> None:
    """Raise CrossTenantWrite if an update with these values lets a row refer to another tenant's row.

    An expression is only checked for the foreign key `tenant`, which must not be set to one.
    """
    path = tenant_path(model)
    if path is None or are_scopes_disabled():
        return
    relations = {relation.field: relation for relation in scoped_relations(model, path)}
    for name, value in values.items():
        field: Any = model._meta.get_field(name)
        if field.name == path:
            _check_new_tenant(field, value)
        elif field in relations and value is not None and not hasattr(value, "resolve_expression"):
            check_key(relations[field], value, using)


def without_tenant(model: type[Model], names: Sequence[str]) -> list[str]:
    """Return the names of fields without the foreign key `tenant`, unless scopes are disabled.

    A bulk update need not write it: the rows in memory are checked, and the stored rows are filtered.
    """
    if are_scopes_disabled():
        return list(names)
    return [name for name in names if model._meta.get_field(name).name != tenant_path(model)]


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
    """Return the error for a row that belongs to another tenant."""
    return CrossTenantWrite(
        f"This {row._meta.verbose_name} ({row.pk or 'new'}) does not belong to tenant "
        f"{require_tenant().pk}, but to another tenant or to none. Nothing was saved or deleted."
    )


def _check_own_tenant(row: Model, path: str) -> None:
    """Check the foreign key `tenant`. For a longer path, the row that it leads to is checked instead."""
    tenant = require_tenant()
    if "__" in path:
        return
    attname = row._meta.get_field(path).attname  # type: ignore[union-attr]  # a foreign key
    if getattr(row, attname) is None:
        setattr(row, path, tenant)
    if getattr(row, attname) != tenant.pk:
        raise cross_tenant_write(row)


def _check_new_tenant(field: Any, value: Any) -> None:
    tenant = require_tenant()
    if (value.pk if isinstance(value, Model) else value) != tenant.pk:
        raise CrossTenantWrite(
            f"{field} of these rows cannot be set to {value}: they belong to tenant {tenant.pk}. "
            "Nothing was saved."
        )
