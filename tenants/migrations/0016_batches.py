from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0015_alerts")]

    operations = [
        _online.Step(
            [
                migrations.AddField(
                    model_name="syncrun",
                    name="started_by",
                    field=models.CharField(blank=True, db_default="", default="", editable=False),
                ),
                # Only the choices change, for which the database does nothing.
                migrations.AlterField(
                    model_name="syncrun",
                    name="kind",
                    field=models.CharField(
                        choices=[
                            ("full_sync", "Full Sync"),
                            ("dry_run", "Dry Run"),
                            ("migration", "Migration"),
                            ("import", "Import"),
                            ("link", "Link"),
                            ("batch", "Batch"),
                        ],
                        max_length=16,
                    ),
                ),
            ],
            table="sync_runs",
            column="started_by",
        ),
    ]
