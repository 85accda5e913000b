from django.db import migrations, models
from django.db.models.functions import Left

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    """Add an index for pages of tenants in the order of their names."""

    atomic = False

    dependencies = [("tenants", "0017_admin_lists")]

    operations = [
        _online.AddIndexOnline(
            model_name="tenant", index=models.Index(Left("name", 256), "id", name="tenants_name")
        ),
    ]
