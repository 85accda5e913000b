import django.contrib.postgres.indexes
from django.db import migrations, models

from clerk_integration.migrations import _online

# Return [before, after] as JSON, or NULL if both are the same.
PAIR = """
CREATE OR REPLACE FUNCTION tenant_history_pair(before anyelement, after anyelement) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN before IS DISTINCT FROM after THEN jsonb_build_array(before, after) END
$$
"""

# The source and actor that `tenants.history` has set for the transaction; unset: a statement in a shell.
ORIGIN = """
    coalesce(nullif(current_setting('tenants.source', true), ''), 'command'),
    coalesce(current_setting('tenants.actor', true), '')"""

# The first row that applies names the action:
#
# old row           | new row           | action
# ------------------+-------------------+-----------------
# none              | any               | created
# any               | none              | deleted
# no organization   | an organization   | linked
# an organization   | no organization   | unlinked
# an organization   | another one       | linked
# not deleted       | deleted in Clerk  | deleted_in_clerk
# deleted in Clerk  | not deleted       | restored
# another status    | active            | reactivated
# another status    | suspended         | suspended
# another status    | deactivated       | deactivated
# another name, slug|                   | renamed
# another reason    |                   | suspended
TENANT_CHANGES = """
    INSERT INTO tenant_history (source, actor, tenant_id, clerk_user_id, action, changes)
    SELECT {origin}, coalesce(n.id, o.id), '',
        CASE
            WHEN o.id IS NULL THEN 'created'
            WHEN n.id IS NULL THEN 'deleted'
            WHEN n.clerk_org_id IS NULL AND o.clerk_org_id IS NOT NULL THEN 'unlinked'
            WHEN o.clerk_org_id IS DISTINCT FROM n.clerk_org_id THEN 'linked'
            WHEN o.deleted_at IS NULL AND n.deleted_at IS NOT NULL THEN 'deleted_in_clerk'
            WHEN o.deleted_at IS NOT NULL AND n.deleted_at IS NULL THEN 'restored'
            WHEN o.status <> n.status AND n.status = 'active' THEN 'reactivated'
            WHEN o.status <> n.status THEN n.status
            WHEN (o.name, o.slug) IS DISTINCT FROM (n.name, n.slug) THEN 'renamed'
            ELSE 'suspended'
        END,
        jsonb_strip_nulls(jsonb_build_object(
            'name', tenant_history_pair(o.name, n.name),
            'slug', tenant_history_pair(o.slug, n.slug),
            'status', tenant_history_pair(o.status, n.status),
            'suspension_reason', tenant_history_pair(o.suspension_reason, n.suspension_reason),
            'clerk_org_id', tenant_history_pair(o.clerk_org_id, n.clerk_org_id),
            'deleted_at', tenant_history_pair(o.deleted_at, n.deleted_at)))
    FROM {rows}
    WHERE (o.name, o.slug, o.status, o.suspension_reason, o.clerk_org_id, o.deleted_at)
          IS DISTINCT FROM
          (n.name, n.slug, n.status, n.suspension_reason, n.clerk_org_id, n.deleted_at);
"""

# The first row that applies names the action:
#
# old row           | new row           | action
# ------------------+-------------------+----------------
# none, inactive    | active            | member_added
# none              | inactive          | member_removed
# active            | inactive          | member_removed
# another role      |                   | role_changed
# not the primary   | the primary       | primary_set
# the primary       | not the primary   | primary_cleared
MEMBERSHIP_CHANGES = """
    INSERT INTO tenant_history (source, actor, tenant_id, clerk_user_id, action, changes)
    SELECT {origin}, n.tenant_id, n.clerk_user_id,
        CASE
            WHEN o.is_active IS DISTINCT FROM n.is_active AND n.is_active THEN 'member_added'
            WHEN o.is_active IS DISTINCT FROM n.is_active THEN 'member_removed'
            WHEN o.role <> n.role THEN 'role_changed'
            WHEN n.is_primary THEN 'primary_set'
            ELSE 'primary_cleared'
        END,
        jsonb_strip_nulls(jsonb_build_object(
            'role', tenant_history_pair(o.role, n.role),
            'is_active', tenant_history_pair(o.is_active, n.is_active),
            'is_primary', tenant_history_pair(o.is_primary, n.is_primary)))
    FROM {rows}
    WHERE (o.role, o.is_active, o.is_primary) IS DISTINCT FROM (n.role, n.is_active, n.is_primary);
"""

INSERTED = "new_rows AS n LEFT JOIN {table} AS o ON false"
UPDATED = "old_rows AS o JOIN new_rows AS n ON n.id = o.id"
DELETED = "old_rows AS o LEFT JOIN {table} AS n ON false"

# A sync's first insert of a row is not recorded, nor is an insert in a transaction without a source, such as
# an import. The members of a deleted tenant are deleted with it: the tenant's own row says so.
IS_NAMED = "WHEN (current_setting('tenants.source', true) IN ('api', 'staff', 'webhook', 'command'))"
NEW = "REFERENCING NEW TABLE AS new_rows"
BOTH = "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
OLD = "REFERENCING OLD TABLE AS old_rows"

TRIGGERS = [
    # table, event, changes, rows, transition tables, condition
    ("tenants", "INSERT", TENANT_CHANGES, INSERTED, NEW, IS_NAMED),
    ("tenants", "UPDATE", TENANT_CHANGES, UPDATED, BOTH, ""),
    ("tenants", "DELETE", TENANT_CHANGES, DELETED, OLD, ""),
    ("memberships", "INSERT", MEMBERSHIP_CHANGES, INSERTED, NEW, IS_NAMED),
    ("memberships", "UPDATE", MEMBERSHIP_CHANGES, UPDATED, BOTH, ""),
]


def create_trigger(table, event, changes, rows, transition, condition):
    """Return the statements for a trigger that fires once for each statement, and for its function."""
    name = f"{table}_history_{event.lower()}"
    body = changes.format(origin=ORIGIN, rows=rows.format(table=table))
    return f"""
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN{body}    RETURN NULL;
END $$;
CREATE TRIGGER {name} AFTER {event} ON {table} {transition}
FOR EACH STATEMENT {condition} EXECUTE FUNCTION {name}();
"""


def drop_trigger(table, event, *_):
    """Return the statements that drop a trigger and its function."""
    name = f"{table}_history_{event.lower()}"
    return f"DROP TRIGGER {name} ON {table}; DROP FUNCTION {name}();"


class Migration(migrations.Migration):
    """Record changes of tenants and memberships by triggers; see `tenants.history`."""

    atomic = False

    dependencies = [
        ('tenants', '0008_instance_of_syncs'),
    ]

    operations = [
        _online.Step(
            [
                migrations.CreateModel(
                    name='TenantHistory',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('at', models.DateTimeField(db_default=models.Func(function='clock_timestamp'), editable=False)),
                        ('source', models.CharField(choices=[('api', 'API'), ('staff', 'Staff'), ('webhook', 'Webhook'), ('sync', 'Sync'), ('command', 'Command')], max_length=16)),
                        ('actor', models.CharField(blank=True, max_length=255, verbose_name='Clerk user id or staff user name')),
                        ('tenant_id', models.BigIntegerField()),
                        ('clerk_user_id', models.CharField(blank=True, max_length=255, verbose_name='member')),
                        ('action', models.CharField(choices=[('created', 'Created'), ('renamed', 'Renamed'), ('suspended', 'Suspended'), ('deactivated', 'Deactivated'), ('reactivated', 'Reactivated'), ('linked', 'Linked'), ('unlinked', 'Unlinked'), ('deleted_in_clerk', 'deleted in Clerk'), ('restored', 'Restored'), ('deleted', 'Deleted'), ('member_added', 'Member Added'), ('member_removed', 'Member Removed'), ('role_changed', 'Role Changed'), ('primary_set', 'Primary Set'), ('primary_cleared', 'Primary Cleared')], max_length=24)),
                        ('changes', models.JSONField()),
                    ],
                    options={
                        'verbose_name_plural': 'tenant history',
                        'db_table': 'tenant_history',
                        'ordering': ['-id'],
                        'indexes': [models.Index(fields=['tenant_id', '-id'], name='tenant_history_of_tenant'), django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['at'], name='tenant_history_at')],
                    },
                ),
                migrations.RunSQL(
                    ";".join([PAIR, *(create_trigger(*trigger) for trigger in TRIGGERS)]),
                    "".join(drop_trigger(*trigger) for trigger in TRIGGERS)
                    + "DROP FUNCTION tenant_history_pair(anyelement, anyelement);",
                ),
            ],
            table="tenant_history",
        ),
    ]
