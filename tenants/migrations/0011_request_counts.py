from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0010_permissions")]

    operations = [
        _online.Step(
            [
                migrations.CreateModel(
                    name="RequestCount",
                    fields=[
                        (
                            "key",
                            models.CharField(
                                max_length=300,
                                primary_key=True,
                                serialize=False,
                                verbose_name="limit and caller",
                            ),
                        ),
                        ("began_at", models.DateTimeField()),
                        ("count", models.PositiveIntegerField()),
                    ],
                    options={"db_table": "request_counts"},
                ),
                migrations.RunSQL(
                    "ALTER TABLE request_counts SET UNLOGGED", "ALTER TABLE request_counts SET LOGGED"
                ),
            ],
            table="request_counts",
        )
    ]
