"""Check that foreign keys refer to rows of the current tenant.

An object in memory is checked there. For keys without their object, one statement is sent for each foreign
key and MAX_KEYS keys, however many rows are written. Expressions, such as a subquery, are not checked; the
foreign key that leads to the tenant must not be one.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import Model

from tenants.scoping.context import require_tenant
from tenants.scoping.exceptions import CrossTenantWrite

MAX_KEYS = 10_000
"""The keys in one statement. PostgreSQL accepts up to 65,535 parameters (`server_side_binding`)."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A foreign key to rows that belong to a tenant, and the lookup from such a row to its tenant."""

    field: Any
    tenant_path: str
    is_leading: bool
    """Whether the row with the foreign key belongs to the tenant by this key."""


def tenant_path(model: type[Model]) -> str | None:
    """Return the lookup from a model to its tenant, such as `order__tenant`; None if it is not scoped."""
    return getattr(model._default_manager, "tenant_path", None)


def scoped_relations(model: type[Model], path: str) -> Iterator[Relation]:
    """Yield the foreign keys of a model, which is scoped by `path`, to rows of a tenant."""
    leading, _, rest = path.partition("__")
    fields: Any = model._meta.concrete_fields
    for field in fields:
        if not field.is_relation or field.remote_field.parent_link:
            continue
        is_leading = field.name == leading and bool(rest)
        lookup = rest if is_leading else tenant_path(field.related_model)
        if lookup is not None:
            yield Relation(field, lookup, is_leading)


def check_references(
    rows: Sequence[Model],
    relation: Relation,
    using: str,
    written: Collection[str] | None,
    may_refer_to_each_other: bool,
) -> None:
    """Raise CrossTenantWrite unless the foreign key of all rows refers to rows of the current tenant."""
    field = relation.field
    keys = {_key_in_memory(row, relation) for row in rows}
    if written is not None and not {field.name, field.attname} & {*written}:
        return
    if may_refer_to_each_other and issubclass(type(rows[0]), field.related_model):
        keys -= {getattr(row, field.target_field.attname) for row in rows}
    _check_keys(relation, keys - {None}, using)


def check_key(relation: Relation, value: Any, using: str) -> None:
    """Raise CrossTenantWrite unless the value, a row or its key, is a row of the current tenant."""
    key = getattr(value, relation.field.target_field.attname) if isinstance(value, Model) else value
    _check_keys(relation, {key}, using)


def _key_in_memory(row: Model, relation: Relation) -> Any:
    """Return the foreign key if the statement must check it; check it here if its object is in memory."""
    field = relation.field
    if not field.is_cached(row):
        # Not by getattr: a deferred column would be loaded. It is not written.
        key = row.__dict__.get(field.attname)
        if hasattr(key, "resolve_expression"):
            key = None
        is_missing = key is None and field.attname in row.__dict__
    else:
        key, related = None, field.get_cached_value(row)
        is_missing = related is None
        if related is not None and _tenant_id(related, relation.tenant_path) != require_tenant().pk:
            raise _refers_elsewhere(relation, {related.pk})
    if is_missing and relation.is_leading:
        raise _refers_elsewhere(relation, {None})
    return key


def _check_keys(relation: Relation, keys: Collection[Any], using: str) -> None:
    if not keys:
        return
    target = relation.field.target_field
    wanted = {target.to_python(key) for key in keys}
    rows = relation.field.related_model._base_manager.using(using)
    own = rows.filter(**{relation.tenant_path: require_tenant().pk}).values_list(target.attname, flat=True)
    remaining, elsewhere = iter(wanted), set(wanted)
    while some := list(islice(remaining, MAX_KEYS)):
        elsewhere.difference_update(own.filter(**{f"{target.attname}__in": some}))
    if elsewhere:
        raise _refers_elsewhere(relation, elsewhere)


def _tenant_id(row: Model, path: str) -> Any:
    *relations, last = path.split("__")
    owner: Any = row
    for name in relations:
        owner = getattr(owner, name)
        if owner is None:
            return None
    return getattr(owner, owner._meta.get_field(last).attname)


def _refers_elsewhere(relation: Relation, keys: Collection[Any]) -> CrossTenantWrite:
    first, *others = sorted(map(str, keys))
    more = f" (and {len(others)} more)" if others else ""
    return CrossTenantWrite(
        f"{relation.field} cannot be {first}{more}: it does not exist in tenant {require_tenant().pk}, or "
        "belongs to another tenant. Nothing was saved."
    )
