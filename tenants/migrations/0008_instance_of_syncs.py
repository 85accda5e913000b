from django.db import migrations


class Migration(migrations.Migration):
    """Name the Clerk instance of an older database: that of the last complete full sync."""

    dependencies = [
        ('tenants', '0007_tombstone_sources'),
        ('clerk_integration', '0006_adopted_instance'),
    ]

    operations = [
        migrations.RunSQL(
            """
            INSERT INTO clerk_learned_instance (id, instance_id)
            SELECT 1, instance_id FROM sync_runs
            WHERE kind = 'full_sync' AND state = 'completed' AND instance_id <> ''
            ORDER BY id DESC LIMIT 1
            ON CONFLICT DO NOTHING
            """,
            migrations.RunSQL.noop,
        )
    ]
