import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """Tenants as they were before Clerk: a legacy tenant is a row of this shape."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Tenant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField()),
                ("slug", models.CharField(blank=True, null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("active", "Active"),
                            ("suspended", "Suspended"),
                            ("deactivated", "Deactivated"),
                        ],
                        db_default="active",
                        default="active",
                        max_length=16,
                    ),
                ),
                ("suspension_reason", models.TextField(blank=True, db_default="", default="")),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "db_table": "tenants",
                "ordering": ["id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(status__in=["active", "suspended", "deactivated"]),
                        name="tenants_status_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("clerk_user_id", models.CharField(max_length=255, verbose_name="Clerk user id")),
                ("role", models.CharField(max_length=255)),
                ("is_active", models.BooleanField(db_default=True, default=True)),
                ("is_primary", models.BooleanField(db_default=False, default=False)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "memberships",
                "ordering": ["id"],
                "indexes": [models.Index(fields=["clerk_user_id"], name="memberships_clerk_user_id")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "clerk_user_id"), name="memberships_once_per_tenant"
                    ),
                    models.UniqueConstraint(
                        condition=Q(is_primary=True),
                        fields=("clerk_user_id",),
                        name="memberships_one_primary_per_user",
                    ),
                    models.CheckConstraint(
                        condition=~Q(clerk_user_id="") & ~Q(role=""),
                        name="memberships_user_and_role_not_empty",
                    ),
                ],
            },
        ),
    ]
