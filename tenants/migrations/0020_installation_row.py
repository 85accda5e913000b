from django.db import migrations


class Migration(migrations.Migration):
    """Give every database its installation id at once, so that every backup contains it.

    A database that got its id only with its first migration to Clerk would get another id after the restore
    of an older backup, and would not recognize the organizations that it has created since.
    """

    dependencies = [
        ('tenants', '0019_runs_by_state'),
    ]

    operations = [
        migrations.RunSQL(
            "INSERT INTO installation (id, identity) VALUES (1, gen_random_uuid()) ON CONFLICT DO NOTHING",
            migrations.RunSQL.noop,
        ),
    ]
