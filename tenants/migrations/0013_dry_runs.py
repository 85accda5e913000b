from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0012_search_by_name")]

    operations = [
        # Only the choices change, for which the database does nothing: the step is done if the table exists.
        _online.Step(
            [
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
                        ],
                        max_length=16,
                    ),
                ),
            ],
            table="sync_runs",
        ),
    ]
