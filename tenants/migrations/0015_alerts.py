from django.db import migrations, models
from django.db.models.functions import Now

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0014_counts_of_tenants")]

    operations = [
        _online.Step(
            [
                migrations.CreateModel(
                    name="Alert",
                    fields=[
                        ("kind", models.CharField(max_length=32, primary_key=True, serialize=False)),
                        ("message", models.TextField()),
                        ("found_at", models.DateTimeField(db_default=Now(), editable=False)),
                        ("sent_at", models.DateTimeField(editable=False, null=True)),
                        ("claimed_until", models.DateTimeField(editable=False, null=True)),
                    ],
                    options={"db_table": "tenant_alerts"},
                ),
            ],
            table="tenant_alerts",
        ),
    ]
