"""Absorbing the row that merely mirrors an organization into the tenant that is being linked to it."""

import json
from collections.abc import Iterable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.db.models.fields.reverse_related import ForeignObjectRel

from tenants import signals
from tenants.exceptions import AbsorbRefused
from tenants.mirror import statements
from tenants.models import Membership, Tenant
from tenants.sql import query

TENANT_COLUMNS = ("name", "slug", "logo_url", "clerk_metadata", "clerk_created_at", "clerk_updated_at")
TOLD_COLUMNS = ("name", "slug", "logo_url", "clerk_metadata")
MEMBER_COLUMNS = (
    "clerk_user_id",
    "clerk_membership_id",
    "role",
    "is_active",
    "clerk_created_at",
    "clerk_updated_at",
    "written_at",
)


def absorb(bare: Tenant, target: Tenant) -> list[str]:
    """Give what a pure mirror knows to `target`, and delete it, under a lock that the caller holds.

    Its mirrored columns and its members, ended ones included, move with their stamps: they may be
    newer than what the caller is about to write. Returns the users whose primary it was, so that the
    caller can move their flag. Raise AbsorbRefused, naming every reason, when the row has a life of
    its own: own columns that were touched, or rows other than memberships that refer to it.
    """
    reasons = local_data_of(bare)
    if reasons:
        raise AbsorbRefused(
            f"Tenant {bare.pk} ({bare}) is this organization already and is in use:"
            f" {'; '.join(reasons)}. Nothing was changed.",
            reasons=reasons,
        )
    members = list(Membership.objects.filter(tenant=bare))
    primaries = [member.clerk_user_id for member in members if member.is_primary]
    bare.delete()
    before, after = _values(target, TOLD_COLUMNS), _values(bare, TOLD_COLUMNS)
    Tenant.objects.filter(pk=target.pk).update(**_values(bare, TENANT_COLUMNS))
    signals.announce_tenants([(target.pk, str(bare.clerk_org_id), before, after)])
    _absorb_members(members, target)
    return primaries


def _absorb_members(members: Iterable[Membership], target: Tenant) -> None:
    facts = [_values(member, MEMBER_COLUMNS) for member in members]
    rows = query(
        statements.ABSORB_MEMBERSHIPS, tenant=target.pk, members=json.dumps(facts, cls=DjangoJSONEncoder)
    )
    signals.announce_memberships(rows)


def _values(row: Model, columns: Iterable[str]) -> dict[str, Any]:
    return {column: getattr(row, column) for column in columns}


def local_data_of(bare: Tenant) -> list[str]:
    """Say what makes the row more than a pure mirror; empty when it can be absorbed."""
    return [*_touched_columns(bare), *_referring_rows(bare)]


def _touched_columns(bare: Tenant) -> list[str]:
    touched = []
    if bare.status != Tenant.Status.ACTIVE:
        touched.append(f"its status is {bare.status}")
    if bare.external_id:
        touched.append(f"it was imported as {bare.external_id}")
    if bare.suspension_reason:
        touched.append("it has a suspension reason")
    if Membership.objects.filter(tenant=bare, clerk_membership_id=None).exists():
        touched.append("it has members of its own, which are not in Clerk")
    return touched


def _referring_rows(bare: Tenant) -> list[str]:
    """Rows of whatever app that refer to the tenant or to its members, also those with `related_name="+"`."""
    members = Membership.objects.filter(tenant=bare)
    counts = [(rel, _count(rel, [bare])) for rel in _relations(Tenant) if rel.related_model is not Membership]
    counts += [(rel, _count(rel, members)) for rel in _relations(Membership)]
    return [f"{count} {_label(rel)} refer to it" for rel, count in counts if count]


def _relations(model: type[Model]) -> list[ForeignObjectRel]:
    fields = model._meta.get_fields(include_hidden=True)
    return [field for field in fields if isinstance(field, ForeignObjectRel)]


def _count(relation: ForeignObjectRel, targets: Iterable[Model]) -> int:
    return relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": targets}).count()


def _label(relation: ForeignObjectRel) -> str:
    return str(relation.related_model._meta.verbose_name_plural)
