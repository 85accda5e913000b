"""Absorbing the row that merely mirrors an organization into the tenant that is being linked to it."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Model
from django.db.models.fields.reverse_related import ForeignObjectRel

from tenants.exceptions import AbsorbRefused
from tenants.models import Membership, Tenant

TENANT_COLUMNS = ("name", "slug", "logo_url", "clerk_metadata", "clerk_created_at", "clerk_updated_at")
MEMBER_COLUMNS = ("clerk_membership_id", "role", "is_active", "clerk_created_at", "clerk_updated_at")


def absorb_mirror_of(bare: Tenant, target: Tenant) -> list[str]:
    """Give what a pure mirror knows to `target`, and delete it, under a lock that the caller holds.

    Its mirrored columns and its members, ended ones included, move with their stamps: they may be
    newer than what the caller is about to write. Returns the users whose primary it was, so that the
    caller can move their flag. Raise AbsorbRefused, naming every reason, when the row has a life of
    its own: own columns that were touched, or rows other than memberships that refer to it.
    """
    reasons = reasons_against(bare)
    if reasons:
        raise AbsorbRefused(
            f"Tenant {bare.pk} ({bare}) is this organization already and is in use:"
            f" {'; '.join(reasons)}. Nothing was changed.",
            reasons=reasons,
        )
    members = list(Membership.objects.filter(tenant=bare))
    primaries = [member.clerk_user_id for member in members if member.is_primary]
    bare.delete()
    Tenant.objects.filter(pk=target.pk).update(**_values(bare, TENANT_COLUMNS))
    for member in members:
        Membership.objects.update_or_create(
            tenant=target, clerk_user_id=member.clerk_user_id, defaults=_values(member, MEMBER_COLUMNS)
        )
    return primaries


def _values(row: Model, columns: Iterable[str]) -> dict[str, Any]:
    return {column: getattr(row, column) for column in columns}


def reasons_against(bare: Tenant) -> list[str]:
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
    relations = [rel for rel in Tenant._meta.related_objects if rel.related_model is not Membership]
    counts = [(rel, _manager_count(rel, bare)) for rel in relations]
    return [f"{count} {_label(rel)} refer to it" for rel, count in counts if count]


def _manager_count(relation: ForeignObjectRel, bare: Tenant) -> int:
    return relation.related_model._base_manager.filter(**{relation.field.name: bare}).count()


def _label(relation: ForeignObjectRel) -> str:
    return str(relation.related_model._meta.verbose_name_plural)
