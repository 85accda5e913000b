from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWERS = [
    ("tenants", "view_tenant"),
    ("tenants", "view_membership"),
    ("tenants", "view_tenanthistory"),
    ("tenants", "view_syncrun"),
    ("tenants", "view_creationattempt"),
    ("clerk_integration", "view_webhookdelivery"),
]
OPERATORS = [
    *VIEWERS,
    ("tenants", "change_tenant"),
    ("tenants", "change_tenant_status"),
    ("tenants", "sync_tenant"),
    ("tenants", "link_tenant"),
    ("tenants", "migrate_tenant"),
    ("clerk_integration", "change_webhookdelivery"),
]
GROUPS = {
    "Tenant viewers": VIEWERS,
    "Tenant operators": OPERATORS,
    "Tenant administrators": [*OPERATORS, ("tenants", "delete_tenant")],
}


def create_groups(apps, schema_editor):
    """Create the groups, or give existing groups the permissions that they lack."""
    database = schema_editor.connection.alias
    # Django creates permissions after all migrations, which is too late for a new database.
    for label in ("tenants", "clerk_integration"):
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0, using=database)
        config.models_module = None
    groups = apps.get_model("auth", "Group").objects.using(database)
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    for name, granted in GROUPS.items():
        group, _ = groups.get_or_create(name=name)
        for label, codename in granted:
            group.permissions.add(*permissions.filter(content_type__app_label=label, codename=codename))


class Migration(migrations.Migration):
    """Add permissions for staff, and groups that have them."""

    dependencies = [
        ('tenants', '0009_history'),
        ('clerk_integration', '0006_adopted_instance'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='tenant',
            options={
                'ordering': ['id'],
                'permissions': [
                    ('sync_tenant', 'Can sync tenants from Clerk'),
                    ('link_tenant', 'Can link and unlink tenants'),
                    ('migrate_tenant', 'Can create organizations in Clerk for tenants'),
                    ('change_tenant_status', 'Can suspend, deactivate and reactivate tenants'),
                ],
            },
        ),
        # The groups stay when the migration is undone: people may be in them.
        migrations.RunPython(create_groups, migrations.RunPython.noop),
    ]
