from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("clerk_integration", "0007_draining")]

    operations = [
        _online.Step(
            [
                migrations.CreateModel(
                    name="ClerkState",
                    fields=[
                        ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                        ("checked_at", models.DateTimeField()),
                        ("changed_at", models.DateTimeField()),
                        ("error", models.TextField(blank=True, db_default="", default="", verbose_name="reason")),
                    ],
                    options={
                        "db_table": "clerk_state",
                        "constraints": [
                            models.CheckConstraint(condition=models.Q(("id", 1)), name="clerk_state_only_one")
                        ],
                    },
                )
            ],
            table="clerk_state",
        )
    ]
