"""Absorbing the row that merely mirrors an organization into the tenant that is being linked to it."""

from django.db.models.fields.reverse_related import ForeignObjectRel

from tenants.exceptions import AbsorbRefused
from tenants.models import Membership, Tenant


def absorb_mirror_of(bare: Tenant) -> list[str]:
    """Delete a pure mirror, under a lock that the caller holds on its row.

    Returns the users whose primary it was, so that the caller can move their flag. Raise
    AbsorbRefused, naming every reason, when the row has a life of its own: own columns that were
    touched, or rows other than memberships that refer to it.
    """
    reasons = [*_touched_columns(bare), *_referring_rows(bare)]
    if reasons:
        raise AbsorbRefused(
            f"Tenant {bare.pk} ({bare}) is this organization already and is in use:"
            f" {'; '.join(reasons)}. Nothing was changed.",
            reasons=reasons,
        )
    primaries = list(
        Membership.objects.filter(tenant=bare, is_primary=True).values_list("clerk_user_id", flat=True)
    )
    bare.delete()
    return primaries


def _touched_columns(bare: Tenant) -> list[str]:
    touched = []
    if bare.status != Tenant.Status.ACTIVE:
        touched.append(f"its status is {bare.status}")
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
