"""Absorb a mirror-only tenant into the tenant that is being linked to the same organization."""

from collections.abc import Iterable

from django.db.models import Model
from django.db.models.fields.reverse_related import ForeignObjectRel

from tenants import signals
from tenants.exceptions import AbsorbRefused
from tenants.mirror import statements
from tenants.mirror.rows import MIRRORED_COLUMNS, values_of
from tenants.models import Membership, Tenant, TenantHistory
from tenants.sql import query, see_all_tenants

ANNOUNCED_COLUMNS = ("name", "slug", "logo_url", "clerk_metadata")


def absorb(mirror: Tenant, target: Tenant) -> list[str]:
    """Move the mirrored columns and members of `mirror` to `target`, and delete `mirror`.

    All members move with their times, ended members too: their rows may be newer than the records that the
    caller writes next. Return the users whose primary tenant was `mirror`; the caller makes `target` their
    primary. Raise AbsorbRefused, with every reason, if `mirror` has local data or was itself linked.
    Call it with both rows locked.
    """
    see_all_tenants()
    reasons = why_not_absorbed(mirror)
    if reasons:
        raise AbsorbRefused(
            f"Tenant {mirror.pk} ({mirror}) is linked to this organization already and is not absorbed:"
            f" {'; '.join(reasons)}. Nothing was changed.",
            reasons=reasons,
        )
    rows = query(statements.MOVE_MEMBERSHIPS, mirror=mirror.pk, target=target.pk)
    mirror.delete()
    before, after = values_of(target, ANNOUNCED_COLUMNS), values_of(mirror, ANNOUNCED_COLUMNS)
    Tenant.objects.filter(pk=target.pk).update(**values_of(mirror, MIRRORED_COLUMNS))
    signals.announce_tenants([(target.pk, str(mirror.clerk_org_id), before, after)])
    signals.announce_memberships((target.pk, user, old, new) for user, old, new, _ in rows)
    return [user for user, _, _, was_primary in rows if was_primary]


def why_not_absorbed(tenant: Tenant) -> list[str]:
    """Return the reasons not to absorb the tenant: local data, or its own link; empty if there is none."""
    return [*_touched_columns(tenant), *_links(tenant), *_referring_rows(tenant)]


def _touched_columns(tenant: Tenant) -> list[str]:
    touched = []
    if tenant.status != Tenant.Status.ACTIVE:
        touched.append(f"its status is {tenant.status}")
    if tenant.external_id:
        touched.append(f"it was imported as {tenant.external_id}")
    if tenant.suspension_reason:
        touched.append("it has a suspension reason")
    if Membership.objects.filter(tenant=tenant, clerk_membership_id=None).exists():
        touched.append("it has members that are not in Clerk")
    return touched


def _links(tenant: Tenant) -> list[str]:
    """Describe the last link of the tenant. A tenant that was created for its organization has none."""
    links = TenantHistory.objects.filter(tenant_id=tenant.pk, action=TenantHistory.Action.LINKED)
    last = links.order_by("id").last()
    return [] if last is None else [f"it was linked on {last.at:%Y-%m-%d}, and can be unlinked"]


def _referring_rows(tenant: Tenant) -> list[str]:
    """Describe the rows of all apps that refer to the tenant or to its members, with their number.

    Relations with `related_name="+"` are counted too.
    """
    members = Membership.objects.filter(tenant=tenant)
    counts = [
        (rel, _count(rel, [tenant])) for rel in _relations(Tenant) if rel.related_model is not Membership
    ]
    counts += [(rel, _count(rel, members)) for rel in _relations(Membership)]
    return [f"{count} {_label(rel)} refer to it" for rel, count in counts if count]


def _relations(model: type[Model]) -> list[ForeignObjectRel]:
    fields = model._meta.get_fields(include_hidden=True)
    return [field for field in fields if isinstance(field, ForeignObjectRel)]


def _count(relation: ForeignObjectRel, targets: Iterable[Model]) -> int:
    return relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": targets}).count()


def _label(relation: ForeignObjectRel) -> str:
    return str(relation.related_model._meta.verbose_name_plural)
