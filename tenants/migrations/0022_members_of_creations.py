from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0021_runs")]

    operations = [
        _online.Step(
            [
                # Attempts of an earlier version that are not finished yet add the members, as before.
                migrations.AddField(
                    model_name="creationattempt",
                    name="adds_members",
                    field=models.BooleanField(
                        "adds the tenant's members",
                        db_default=True,
                        help_text="For a legacy tenant; otherwise ignored.",
                    ),
                ),
            ],
            table="creation_attempts",
            column="adds_members",
        ),
    ]
