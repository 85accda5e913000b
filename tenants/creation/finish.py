"""Mirror what a creation made, and make it its creator's primary."""

from django.db import transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.lifecycle.link import refuse_deleted
from tenants.lifecycle.primary import lock_primary, move_primary
from tenants.mirror import writer
from tenants.models import CreationAttempt, Membership, Tenant


def finish_creation(
    attempt: CreationAttempt,
    organization: ClerkOrganization,
    membership: ClerkMembership | None,
    role: str | None,
) -> Tenant:
    """Mirror the organization that Clerk created, with its creator, as the creator's primary.

    Writes tenant, membership and attempt in one transaction. Without a `membership` (Clerk could
    not be asked for it) the creator gets `role` locally, until a sync brings Clerk's own record;
    without both (Clerk says that there is none) nothing.
    """
    with transaction.atomic():
        tenant = adopt_organization(attempt.clerk_user_id, organization, membership, role)
        CreationAttempt.objects.filter(pk=attempt.pk).update(
            state=CreationAttempt.State.SUCCEEDED,
            answer={"tenant_id": tenant.pk, "clerk_org_id": organization.id, "primary": True},
        )
    return tenant


def claim_primary(attempt: CreationAttempt, tenant: Tenant) -> None:
    """Make the tenant its creator's primary, once, when a sync has found it instead of the create.

    Writes `memberships.is_primary` and the attempt's `answer`; nothing when it was done before, or
    when the creator is no member any more.
    """
    if (attempt.answer or {}).get("primary"):
        return
    with transaction.atomic():
        lock_primary(attempt.clerk_user_id)
        writer.share_writers_lock()
        members = Membership.objects.filter(tenant=tenant, clerk_user_id=attempt.clerk_user_id)
        if tenant.is_active and members.filter(is_active=True).exists():
            move_primary(attempt.clerk_user_id, tenant.pk)
        CreationAttempt.objects.filter(pk=attempt.pk).update(
            answer={**(attempt.answer or {}), "primary": True}
        )


def adopt_organization(
    clerk_user_id: str,
    organization: ClerkOrganization,
    membership: ClerkMembership | None,
    role: str | None = None,
) -> Tenant:
    """Mirror an organization with one of its members and make it that member's primary.

    Raise OrganizationDeleted when the id is dead in Clerk.
    """
    with transaction.atomic():
        lock_primary(clerk_user_id)
        writer.write_organizations([organization])
        refuse_deleted(organization.id)
        tenant = Tenant.objects.get(clerk_org_id=organization.id)
        if membership is not None:
            writer.write_memberships([membership])
        elif role is not None:
            writer.write_creator(organization, clerk_user_id, role)
        if (
            tenant.is_active
            and tenant.memberships.filter(clerk_user_id=clerk_user_id, is_active=True).exists()
        ):
            move_primary(clerk_user_id, tenant.pk)
    return tenant
