"""SQL statements of `tenants.mirror`, with the rules for which records are written.

Clerk's records are passed as one JSON parameter, so that a page of any size is one statement with one plan.
`ORDER BY` makes concurrent writers lock their common rows in the same order: by tenant, then by user.
Each write returns its rows, with the columns that `tenants.signals` announces, before and after. The upserts
exist a second time (`COUNT_...`): if no signal has a receiver, they only count the rows that they wrote.
"""

from tenants.mirror.locks import SHARED

# For organizations: takes the locks; returns whether a tenant named in their markers is a legacy tenant.
SHARE_LOCKS = f"""{SHARED}
SELECT (SELECT count(*) FROM locked),
       EXISTS (SELECT FROM tenants WHERE id = ANY (%(tenants)s) AND clerk_org_id IS NULL)
"""

# For a page of memberships: takes the locks; returns the organizations without a row and without a tombstone.
# These organizations are written first, because every writer locks rows of tenants before rows of members.
SHARE_LOCKS_AND_FIND_UNKNOWN = f"""{SHARED}
SELECT (SELECT count(*) FROM locked), ARRAY(
    SELECT nested FROM unnest(%(organizations)s::text[]) AS nested
    WHERE NOT EXISTS (SELECT FROM tenants WHERE clerk_org_id = nested)
      AND NOT EXISTS (SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = nested))
"""

# For a user's list: takes the locks, closes the lease, and returns whether the caller still had the lease.
SHARE_LOCKS_AND_CLOSE_LEASE = f"""{SHARED},
closed AS (
    UPDATE user_syncs
    SET synced_at = %(listed_at)s, lease = NULL, lease_expires_at = NULL
    WHERE clerk_user_id = %(user_id)s AND lease = %(lease)s
    RETURNING clerk_user_id)
SELECT (SELECT count(*) FROM locked),
       EXISTS (SELECT FROM tenants WHERE id = ANY (%(tenants)s) AND clerk_org_id IS NULL),
       EXISTS (SELECT FROM closed)
"""

# Skips an organization that has a row already: `lifecycle.link` absorbs such a row. Locks legacy tenants in
# the order of their ids, as `files.imports` does.
LINK_TENANTS_WITH_MARKER = """
WITH found AS MATERIALIZED (
    SELECT tenants.id, marker.clerk_org_id
    FROM jsonb_to_recordset(%(markers)s::jsonb) AS marker(
        clerk_org_id text, tenant_id bigint, installation text)
    JOIN installation ON installation.identity::text = marker.installation
    JOIN tenants ON tenants.id = marker.tenant_id
    WHERE tenants.clerk_org_id IS NULL
      AND NOT EXISTS (SELECT FROM tenants AS mirror WHERE mirror.clerk_org_id = marker.clerk_org_id)
      AND NOT EXISTS (
          SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = marker.clerk_org_id)
    ORDER BY tenants.id
    FOR UPDATE OF tenants)
UPDATE tenants SET clerk_org_id = found.clerk_org_id, updated_at = clock_timestamp()
FROM found
WHERE tenants.id = found.id AND tenants.clerk_org_id IS NULL
RETURNING tenants.id, tenants.clerk_org_id
"""

# The write and the dry run (`tenants.reconcile.differences`) share the following conditions, so that the dry
# run reports exactly what the write would do. In both, Clerk's records are named `incoming`, and their
# fields have the names of our columns; in the conflict clause of an upsert, the record is named `excluded`.

# `json`, because the conversion of a page to `jsonb` takes longer than reading its records.
INCOMING_ORGANIZATIONS = """json_to_recordset(%(records)s::json) AS incoming(
    clerk_org_id text, name text, slug text, logo_url text, clerk_metadata jsonb,
    clerk_created_at bigint, clerk_updated_at bigint, attempt uuid)"""

INCOMING_MEMBERSHIPS = """json_to_recordset(%(records)s::json) AS incoming(
    clerk_membership_id text, clerk_user_id text, clerk_org_id text, role text,
    clerk_created_at bigint, clerk_updated_at bigint)"""

ORGANIZATION_NOT_DELETED = """NOT EXISTS (
    SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = incoming.clerk_org_id)"""

MEMBERSHIP_NOT_DELETED = f"""NOT EXISTS (
    SELECT FROM tombstones WHERE kind = 'membership' AND clerk_id = incoming.clerk_membership_id)
AND NOT EXISTS (
    SELECT FROM tombstones WHERE kind = 'user' AND clerk_id = incoming.clerk_user_id)
AND {ORGANIZATION_NOT_DELETED}"""

# Also true if there is no row here: every column of `tenants` is then NULL.
ORGANIZATION_CHANGES = """(
    coalesce(tenants.clerk_updated_at, 0) <= coalesce({incoming}.clerk_updated_at, 0)
    AND (tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata,
         tenants.clerk_created_at, tenants.clerk_updated_at)
        IS DISTINCT FROM
        ({incoming}.name, {incoming}.slug, {incoming}.logo_url, {incoming}.clerk_metadata,
         {incoming}.clerk_created_at, {incoming}.clerk_updated_at))"""

# The time at which Clerk was asked for the records of a page, or for the record of an event.
AS_OF = "%(as_of)s::timestamptz"
_AS_OF_EVENT = "(%(as_of)s::jsonb ->> {incoming}.clerk_membership_id)::timestamptz"

# Whether an incoming membership is written over our row of the same tenant and user, if they differ:
#
# our row                      | incoming               | written if
# -----------------------------+------------------------+---------------------------------------------------
# none                         | active                 | always
# any                          | inactive (not on       | our row is unchanged since it was found missing
#                              | Clerk's complete list) |
# the same id, or no id yet    | active                 | it is not older, and our row is active or ended
#                              |                        | before Clerk was asked (`as_of`; NULL: just now)
# another id, created by Clerk | active                 | our row is inactive or has the lower id
# at the same time             |                        |
# another id                   | active                 | Clerk created it later
MEMBERSHIP_CHANGES = """(
    CASE
        WHEN memberships.id IS NULL THEN true
        WHEN NOT {incoming}.is_active
            THEN (memberships.clerk_membership_id, memberships.role, memberships.clerk_updated_at)
                 IS NOT DISTINCT FROM
                 ({incoming}.clerk_membership_id, {incoming}.role, {incoming}.clerk_updated_at)
        WHEN coalesce(memberships.clerk_membership_id, {incoming}.clerk_membership_id)
             = {incoming}.clerk_membership_id
            THEN coalesce(memberships.clerk_updated_at, 0) <= coalesce({incoming}.clerk_updated_at, 0)
                 AND (memberships.is_active
                      OR memberships.written_at < coalesce({as_of}, 'infinity'))
        WHEN coalesce(memberships.clerk_created_at, 0) = coalesce({incoming}.clerk_created_at, 0)
            THEN NOT memberships.is_active
                 OR memberships.clerk_membership_id < {incoming}.clerk_membership_id
        ELSE coalesce(memberships.clerk_created_at, 0) < coalesce({incoming}.clerk_created_at, 0)
    END
    AND (memberships.clerk_membership_id, memberships.role, memberships.is_active,
         memberships.clerk_created_at, memberships.clerk_updated_at)
        IS DISTINCT FROM
        ({incoming}.clerk_membership_id, {incoming}.role, {incoming}.is_active,
         {incoming}.clerk_created_at, {incoming}.clerk_updated_at))"""

# Rows that end if a complete list from Clerk lacks them: mirrored rows that were not written since Clerk was
# asked for the list. A creator whose membership could not be read from Clerk has a row without an id, but
# with the time at which Clerk created the organization; a member of a legacy tenant has no id and no time.
TENANT_CAN_BE_RETIRED = """(
    tenants.clerk_org_id IS NOT NULL AND tenants.deleted_at IS NULL
    AND greatest(tenants.created_at, tenants.updated_at, tenants.last_synced_at) < %(as_of)s)"""

MIRRORED_MEMBERSHIP = """(
    memberships.clerk_membership_id IS NOT NULL OR memberships.clerk_created_at IS NOT NULL)"""

# A row whose time of writing lies in the future is older than the list: the database's clock was set back
# after it was written. A row that was written during the list may lie up to a minute in the future, if the
# clock was set back during the list.
_WRITTEN_BEFORE_THE_CLOCK_WAS_SET_BACK = """(
    memberships.written_at > clock_timestamp() + interval '1 minute'
    AND %(as_of)s::timestamptz <= clock_timestamp())"""

MEMBERSHIP_CAN_BE_ENDED = f"""(
    memberships.is_active AND {MIRRORED_MEMBERSHIP} AND tenants.clerk_org_id IS NOT NULL
    AND (memberships.written_at < %(as_of)s::timestamptz OR {_WRITTEN_BEFORE_THE_CLOCK_WAS_SET_BACK}))"""

_COUNT_WRITTEN = "SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"

# If an organization carries the marker of an unresolved creation, the creation is recorded as succeeded.
# A join of `tenants` itself would read the whole table while it has fewer than some thousand rows.
_WRITE_ORGANIZATIONS = f"""
WITH incoming AS MATERIALIZED (
    SELECT * FROM {INCOMING_ORGANIZATIONS}),
settled AS (
    UPDATE creation_attempts
    SET state = 'succeeded', answer = jsonb_build_object('clerk_org_id', incoming.clerk_org_id)
    FROM incoming
    WHERE creation_attempts.marker = incoming.attempt AND creation_attempts.state IN ('sent', 'unknown')),
present AS MATERIALIZED (
    SELECT * FROM tenants WHERE clerk_org_id = ANY (ARRAY(SELECT clerk_org_id FROM incoming))),
news AS MATERIALIZED (
    SELECT incoming.*, tenants.name AS old_name, tenants.slug AS old_slug,
           tenants.logo_url AS old_logo_url, tenants.clerk_metadata AS old_metadata
    FROM incoming LEFT JOIN present AS tenants ON tenants.clerk_org_id = incoming.clerk_org_id
    WHERE {ORGANIZATION_NOT_DELETED} AND {ORGANIZATION_CHANGES.format(incoming="incoming")}),
written AS (
    INSERT INTO tenants (clerk_org_id, name, slug, logo_url, clerk_metadata,
                         clerk_created_at, clerk_updated_at, last_synced_at)
    SELECT clerk_org_id, name, slug, logo_url, clerk_metadata,
           clerk_created_at, clerk_updated_at, clock_timestamp()
    FROM news
    ORDER BY clerk_org_id
    ON CONFLICT (clerk_org_id) DO UPDATE SET
        name = excluded.name,
        slug = excluded.slug,
        logo_url = excluded.logo_url,
        clerk_metadata = excluded.clerk_metadata,
        clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at,
        updated_at = clock_timestamp(),
        last_synced_at = clock_timestamp()
    WHERE {ORGANIZATION_CHANGES.format(incoming="excluded")}
    RETURNING id, clerk_org_id, name, slug, logo_url, clerk_metadata, xmax = 0 AS is_new)
"""

UPSERT_ORGANIZATIONS = f"""{_WRITE_ORGANIZATIONS}
SELECT written.id, written.clerk_org_id,
       CASE WHEN NOT is_new THEN jsonb_build_object(
           'name', old_name, 'slug', old_slug, 'logo_url', old_logo_url, 'clerk_metadata', old_metadata) END,
       jsonb_build_object(
           'name', written.name, 'slug', written.slug,
           'logo_url', written.logo_url, 'clerk_metadata', written.clerk_metadata)
FROM written LEFT JOIN news USING (clerk_org_id)
"""

COUNT_UPSERTED_ORGANIZATIONS = f"{_WRITE_ORGANIZATIONS} {_COUNT_WRITTEN}"

# One statement writes listed memberships and ends missing ones, so that it locks all rows in one order.
_WRITE_MEMBERSHIPS = f"""
WITH incoming AS MATERIALIZED (
    SELECT tenants.id AS tenant_id, incoming.*, true AS is_active
    FROM {INCOMING_MEMBERSHIPS}
    JOIN tenants ON tenants.clerk_org_id = incoming.clerk_org_id
    WHERE {MEMBERSHIP_NOT_DELETED}),
records AS MATERIALIZED (
    SELECT * FROM incoming{{missing}}),
news AS MATERIALIZED (
    SELECT records.*, memberships.role AS old_role, memberships.is_active AS old_is_active
    FROM records LEFT JOIN memberships
      ON memberships.tenant_id = records.tenant_id AND memberships.clerk_user_id = records.clerk_user_id
    WHERE {MEMBERSHIP_CHANGES.format(incoming="records", as_of="{as_of_records}")}),
written AS (
    INSERT INTO memberships (tenant_id, clerk_user_id, clerk_membership_id, role, is_active,
                             clerk_created_at, clerk_updated_at, written_at)
    SELECT tenant_id, clerk_user_id, clerk_membership_id, role, is_active,
           clerk_created_at, clerk_updated_at, clock_timestamp()
    FROM news
    ORDER BY tenant_id, clerk_user_id
    ON CONFLICT (tenant_id, clerk_user_id) DO UPDATE SET
        clerk_membership_id = excluded.clerk_membership_id,
        role = excluded.role,
        is_active = excluded.is_active,
        clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at,
        written_at = clock_timestamp()
    WHERE {MEMBERSHIP_CHANGES.format(incoming="excluded", as_of="{as_of_excluded}")}
    RETURNING tenant_id, clerk_user_id, role, is_active, xmax = 0 AS is_new)
"""

_WRITTEN_MEMBERSHIPS = """
SELECT written.tenant_id, written.clerk_user_id,
       CASE WHEN NOT is_new THEN jsonb_build_object('role', old_role, 'is_active', old_is_active) END,
       jsonb_build_object('role', written.role, 'is_active', written.is_active)
FROM written LEFT JOIN news USING (tenant_id, clerk_user_id)
"""

_MISSING = f"""
    UNION ALL
    SELECT memberships.tenant_id, memberships.clerk_membership_id, memberships.clerk_user_id,
           tenants.clerk_org_id, memberships.role, memberships.clerk_created_at,
           memberships.clerk_updated_at, false
    FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
    WHERE {MEMBERSHIP_CAN_BE_ENDED}"""

# A row without Clerk's id may be the row of an unreadable record.
_UNLISTED = f"""{_MISSING}
      AND %(retire)s
      AND coalesce(memberships.clerk_membership_id <> ALL (%(listed)s), %(all_readable)s)
      AND NOT EXISTS (
          SELECT FROM incoming
          WHERE incoming.tenant_id = memberships.tenant_id
            AND incoming.clerk_user_id = memberships.clerk_user_id)"""


def _write_memberships(missing: str = "", as_of: str = AS_OF) -> str:
    return _WRITE_MEMBERSHIPS.format(
        missing=missing,
        as_of_records=as_of.format(incoming="records"),
        as_of_excluded=as_of.format(incoming="excluded"),
    )


UPSERT_MEMBERSHIPS = _write_memberships() + _WRITTEN_MEMBERSHIPS

UPSERT_MEMBERSHIPS_OF_EVENTS = _write_memberships(as_of=_AS_OF_EVENT) + _WRITTEN_MEMBERSHIPS

COUNT_UPSERTED_MEMBERSHIPS = f"{_write_memberships()} {_COUNT_WRITTEN}"

END_MEMBERSHIPS = _write_memberships(_MISSING + " AND memberships.id = ANY (%(ids)s)") + _WRITTEN_MEMBERSHIPS

WRITE_USER_LISTING = (
    _write_memberships(_UNLISTED + " AND memberships.clerk_user_id = %(user_id)s") + _WRITTEN_MEMBERSHIPS
)

WRITE_ORGANIZATION_LISTING = (
    _write_memberships(_UNLISTED + " AND tenants.clerk_org_id = %(organization_id)s") + _WRITTEN_MEMBERSHIPS
)

_END = """
UPDATE memberships SET is_active = false, written_at = clock_timestamp()
WHERE is_active AND {scope}
RETURNING memberships.tenant_id, memberships.clerk_user_id,
          '{{"is_active": true}}'::jsonb, '{{"is_active": false}}'::jsonb
"""

END_MEMBERSHIPS_OF_TENANT = _END.format(scope="tenant_id = %(tenant)s")

END_MEMBERSHIPS_OF_USER = _END.format(scope=f"clerk_user_id = %(user)s AND {MIRRORED_MEMBERSHIP}")

# Begins again the local memberships that ended when the organization was recorded as deleted.
BEGIN_LOCAL_MEMBERSHIPS = f"""
UPDATE memberships SET is_active = true, written_at = clock_timestamp()
FROM tenants
WHERE tenants.id = memberships.tenant_id AND tenants.id = %(tenant)s
  AND NOT memberships.is_active AND NOT {MIRRORED_MEMBERSHIP}
  AND memberships.written_at >= tenants.deleted_at
RETURNING memberships.tenant_id, memberships.clerk_user_id,
          '{{"is_active": false}}'::jsonb, '{{"is_active": true}}'::jsonb
"""

# Moves the members of an absorbed tenant, with their times.
MOVE_MEMBERSHIPS = """
WITH moved AS (
    DELETE FROM memberships WHERE tenant_id = %(mirror)s RETURNING *),
present AS MATERIALIZED (
    SELECT clerk_user_id, jsonb_build_object('role', role, 'is_active', is_active) AS before
    FROM memberships WHERE tenant_id = %(target)s),
written AS (
    INSERT INTO memberships (tenant_id, clerk_user_id, clerk_membership_id, role, is_active,
                             clerk_created_at, clerk_updated_at, written_at)
    SELECT %(target)s, clerk_user_id, clerk_membership_id, role, is_active,
           clerk_created_at, clerk_updated_at, written_at
    FROM moved
    ORDER BY clerk_user_id
    ON CONFLICT (tenant_id, clerk_user_id) DO UPDATE SET
        clerk_membership_id = excluded.clerk_membership_id,
        role = excluded.role,
        is_active = excluded.is_active,
        clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at,
        written_at = excluded.written_at
    RETURNING clerk_user_id, role, is_active)
SELECT clerk_user_id, present.before,
       jsonb_build_object('role', written.role, 'is_active', written.is_active), moved.is_primary
FROM written JOIN moved USING (clerk_user_id) LEFT JOIN present USING (clerk_user_id)
"""
