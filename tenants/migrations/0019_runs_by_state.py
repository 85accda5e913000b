from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0018_order_by_name")]

    operations = [
        _online.AddIndexOnline(
            model_name="syncrun",
            index=models.Index(fields=["state", "-id"], name="sync_runs_by_state"),
        ),
    ]
