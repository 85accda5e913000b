from django.db import migrations, models

from clerk_integration.migrations import _online

INDEXES = [
    models.Index(fields=["id"], condition=models.Q(("clerk_org_id", None)), name="tenants_legacy"),
    models.Index(fields=["id"], condition=models.Q(("status", "suspended")), name="tenants_suspended"),
    models.Index(fields=["id"], condition=models.Q(("status", "deactivated")), name="tenants_deactivated"),
    models.Index(fields=["id"], condition=models.Q(("deleted_at__isnull", False)), name="tenants_deleted"),
    models.Index(
        fields=["last_synced_at"],
        condition=models.Q(("clerk_org_id__isnull", False), ("deleted_at", None)),
        name="tenants_last_synced",
    ),
]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tenants", "0013_dry_runs")]

    operations = [_online.AddIndexOnline(model_name="tenant", index=index) for index in INDEXES]
