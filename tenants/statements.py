"""The statements of `tenants.sync`: the write rule, in SQL.

Facts travel as one JSON parameter, so that a page of any size is one statement with one plan.
`ORDER BY` makes concurrent pages lock their common rows in the same order. Each statement returns
the rows that it wrote, with the columns that others may want to hear about before and after.
"""

SHARE_WRITERS_LOCK = """
SELECT pg_advisory_xact_lock_shared(%(key)s),
       EXISTS (SELECT FROM tenants WHERE id = ANY (%(marked)s) AND clerk_org_id IS NULL)
"""

LINK_MARKED = """
WITH marked AS MATERIALIZED (
    SELECT tenants.id, fact.organization_id
    FROM jsonb_to_recordset(%(markers)s::jsonb) AS fact(
        organization_id text, tenant_id bigint, installation text)
    JOIN installation ON installation.identity::text = fact.installation
    JOIN tenants ON tenants.id = fact.tenant_id
    WHERE tenants.clerk_org_id IS NULL
      AND NOT EXISTS (SELECT FROM tenants AS mirror WHERE mirror.clerk_org_id = fact.organization_id)
      AND NOT EXISTS (
          SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = fact.organization_id)
    ORDER BY fact.organization_id
    FOR UPDATE OF tenants)
UPDATE tenants SET clerk_org_id = marked.organization_id, updated_at = clock_timestamp()
FROM marked
WHERE tenants.id = marked.id AND tenants.clerk_org_id IS NULL
RETURNING tenants.id, tenants.clerk_org_id
"""

UPSERT_ORGANIZATIONS = """
WITH fact AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(facts)s::jsonb) AS fact(
        id text, name text, slug text, image_url text, public_metadata jsonb,
        created_at bigint, updated_at bigint)),
before AS MATERIALIZED (
    SELECT tenants.id, tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata
    FROM tenants JOIN fact ON fact.id = tenants.clerk_org_id),
written AS (
    INSERT INTO tenants (clerk_org_id, name, slug, logo_url, clerk_metadata,
                         clerk_created_at, clerk_updated_at, last_synced_at)
    SELECT id, name, slug, image_url, public_metadata, created_at, updated_at, clock_timestamp()
    FROM fact
    WHERE NOT EXISTS (
        SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = fact.id)
    ORDER BY fact.id
    ON CONFLICT (clerk_org_id) DO UPDATE SET
        name = excluded.name,
        slug = excluded.slug,
        logo_url = excluded.logo_url,
        clerk_metadata = excluded.clerk_metadata,
        clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at,
        updated_at = clock_timestamp(),
        last_synced_at = clock_timestamp()
    WHERE coalesce(tenants.clerk_updated_at, 0) <= coalesce(excluded.clerk_updated_at, 0)
      AND (tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata,
           tenants.clerk_created_at, tenants.clerk_updated_at)
          IS DISTINCT FROM
          (excluded.name, excluded.slug, excluded.logo_url, excluded.clerk_metadata,
           excluded.clerk_created_at, excluded.clerk_updated_at)
    RETURNING id, clerk_org_id, name, slug, logo_url, clerk_metadata)
SELECT written.id, written.clerk_org_id,
       CASE WHEN before.id IS NOT NULL THEN jsonb_build_object(
           'name', before.name, 'slug', before.slug,
           'logo_url', before.logo_url, 'clerk_metadata', before.clerk_metadata) END,
       jsonb_build_object(
           'name', written.name, 'slug', written.slug,
           'logo_url', written.logo_url, 'clerk_metadata', written.clerk_metadata)
FROM written LEFT JOIN before ON before.id = written.id
"""

UPSERT_MEMBERSHIPS = """
WITH fact AS MATERIALIZED (
    SELECT tenants.id AS tenant_id, fact.*
    FROM jsonb_to_recordset(%(facts)s::jsonb) AS fact(
        id text, user_id text, organization_id text, role text, created_at bigint, updated_at bigint)
    JOIN tenants ON tenants.clerk_org_id = fact.organization_id),
before AS MATERIALIZED (
    SELECT memberships.id, memberships.role, memberships.is_active
    FROM memberships JOIN fact
      ON fact.tenant_id = memberships.tenant_id AND fact.user_id = memberships.clerk_user_id),
written AS (
    INSERT INTO memberships (tenant_id, clerk_user_id, clerk_membership_id, role,
                             clerk_created_at, clerk_updated_at, written_at)
    SELECT tenant_id, user_id, id, role, created_at, updated_at, clock_timestamp()
    FROM fact
    WHERE NOT EXISTS (SELECT FROM tombstones WHERE kind = 'membership' AND clerk_id = fact.id)
      AND NOT EXISTS (SELECT FROM tombstones WHERE kind = 'user' AND clerk_id = fact.user_id)
      AND NOT EXISTS (
          SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = fact.organization_id)
    ORDER BY tenant_id, user_id
    ON CONFLICT (tenant_id, clerk_user_id) DO UPDATE SET
        clerk_membership_id = excluded.clerk_membership_id,
        role = excluded.role,
        is_active = true,
        clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at,
        written_at = clock_timestamp()
    WHERE CASE
            WHEN memberships.clerk_membership_id IS NULL THEN true
            WHEN memberships.clerk_membership_id = excluded.clerk_membership_id
                THEN coalesce(memberships.clerk_updated_at, 0) < coalesce(excluded.clerk_updated_at, 0)
                     -- An equal stamp heals, but what was read before the membership was seen to have
                     -- ended does not begin it again.
                     OR coalesce(memberships.clerk_updated_at, 0) = coalesce(excluded.clerk_updated_at, 0)
                        AND (memberships.is_active
                             OR memberships.written_at < coalesce(%(as_of)s::timestamptz, 'infinity'))
            WHEN coalesce(memberships.clerk_created_at, 0) = coalesce(excluded.clerk_created_at, 0)
                THEN NOT memberships.is_active
                     OR memberships.clerk_membership_id < excluded.clerk_membership_id
            ELSE coalesce(memberships.clerk_created_at, 0) < coalesce(excluded.clerk_created_at, 0)
          END
      AND (memberships.clerk_membership_id, memberships.role, memberships.is_active,
           memberships.clerk_created_at, memberships.clerk_updated_at)
          IS DISTINCT FROM
          (excluded.clerk_membership_id, excluded.role, true,
           excluded.clerk_created_at, excluded.clerk_updated_at)
    RETURNING id, tenant_id, clerk_user_id, role, is_active)
SELECT written.tenant_id, written.clerk_user_id,
       CASE WHEN before.id IS NOT NULL THEN jsonb_build_object(
           'role', before.role, 'is_active', before.is_active) END,
       jsonb_build_object('role', written.role, 'is_active', written.is_active)
FROM written LEFT JOIN before ON before.id = written.id
"""

ENDED = """
RETURNING memberships.tenant_id, memberships.clerk_user_id,
          '{"is_active": true}'::jsonb, '{"is_active": false}'::jsonb
"""

ABSENT = """
memberships.clerk_membership_id IS NOT NULL AND memberships.clerk_membership_id <> ALL (%(listed)s)
OR memberships.clerk_membership_id IS NULL AND tenants.clerk_org_id IS NOT NULL
   AND memberships.role LIKE 'org:%%'
"""
# The second half: the creator of a tenant whose membership could not be read back has a row without
# Clerk's id, and with a role that only Clerk gives. Legacy members have legacy roles.

BURY = """
INSERT INTO tombstones (kind, clerk_id) VALUES (%(kind)s, %(clerk_id)s) ON CONFLICT DO NOTHING
"""

RETIRE_ORGANIZATION = """
UPDATE tenants
SET status = 'deactivated', deleted_at = clock_timestamp(),
    updated_at = clock_timestamp(), last_synced_at = clock_timestamp()
WHERE clerk_org_id = %(clerk_id)s AND deleted_at IS NULL
RETURNING id
"""

END_MEMBERSHIPS_OF_ORGANIZATION = f"""
UPDATE memberships SET is_active = false, written_at = clock_timestamp()
WHERE is_active AND tenant_id IN (SELECT id FROM tenants WHERE clerk_org_id = %(clerk_id)s)
{ENDED}"""

END_MEMBERSHIPS_OF_USER = f"""
UPDATE memberships SET is_active = false, written_at = clock_timestamp()
WHERE is_active AND clerk_user_id = %(clerk_id)s AND clerk_membership_id IS NOT NULL
{ENDED}"""

END_MEMBERSHIP = """
WITH before AS MATERIALIZED (
    SELECT memberships.id, memberships.role, memberships.is_active
    FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
    WHERE tenants.clerk_org_id = %(organization_id)s
      AND memberships.clerk_user_id = %(user_id)s
      AND (memberships.clerk_membership_id = %(clerk_id)s
           OR coalesce(memberships.clerk_created_at, 0) < coalesce(%(created_at)s, 0)))
UPDATE memberships
SET is_active = false, clerk_membership_id = %(clerk_id)s, role = %(role)s,
    clerk_created_at = %(created_at)s, clerk_updated_at = %(updated_at)s, written_at = clock_timestamp()
FROM before
WHERE before.id = memberships.id
RETURNING memberships.tenant_id, memberships.clerk_user_id,
          jsonb_build_object('role', before.role, 'is_active', before.is_active),
          jsonb_build_object('role', memberships.role, 'is_active', memberships.is_active)
"""

FINISH_USER_LISTING = f"""
WITH finished AS (
    UPDATE user_syncs
    SET synced_at = %(listed_at)s, lease = NULL, lease_expires_at = NULL
    WHERE clerk_user_id = %(user_id)s AND lease = %(lease)s
    RETURNING clerk_user_id),
resolved AS (
    UPDATE creation_attempts AS attempt
    SET state = 'succeeded',
        answer = jsonb_build_object('tenant_id', tenants.id, 'clerk_org_id', tenants.clerk_org_id)
    FROM jsonb_to_recordset(%(markers)s::jsonb) AS found(marker uuid, organization_id text)
    JOIN tenants ON tenants.clerk_org_id = found.organization_id
    WHERE attempt.marker = found.marker AND attempt.clerk_user_id = %(user_id)s
      AND attempt.state IN ('sent', 'unknown'))
UPDATE memberships SET is_active = false, written_at = clock_timestamp()
FROM finished, tenants
WHERE %(retire)s
  AND tenants.id = memberships.tenant_id
  AND memberships.clerk_user_id = finished.clerk_user_id
  AND memberships.is_active
  AND ({ABSENT})
  AND memberships.written_at < %(listed_at)s
{ENDED}"""

END_ABSENT_MEMBERS = f"""
UPDATE memberships SET is_active = false, written_at = clock_timestamp()
FROM tenants
WHERE tenants.id = memberships.tenant_id
  AND tenants.clerk_org_id = %(organization_id)s
  AND memberships.is_active
  AND ({ABSENT})
  AND memberships.written_at < %(listed_at)s
{ENDED}"""

TOUCH_ORGANIZATION = """
UPDATE tenants SET last_synced_at = clock_timestamp()
WHERE clerk_org_id = %(clerk_id)s AND deleted_at IS NULL
"""

END_MEMBERSHIPS = f"""
UPDATE memberships SET is_active = false, written_at = clock_timestamp()
FROM tenants
WHERE memberships.id = ANY (%(ids)s)
  AND tenants.id = memberships.tenant_id
  AND tenants.clerk_org_id IS NOT NULL
  AND memberships.is_active
  AND memberships.clerk_membership_id IS NOT NULL
  AND memberships.written_at < %(listed_at)s
{ENDED}"""
