from django.db import migrations, models
from django.db.models.fields.json import KeyTextTransform

from clerk_integration.migrations import _online


class Migration(migrations.Migration):
    """Add indexes for the admin: ended memberships, and the creation attempt of an organization."""

    atomic = False

    dependencies = [("tenants", "0016_batches")]

    operations = [
        _online.AddIndexOnline(
            model_name="creationattempt",
            index=models.Index(
                KeyTextTransform("clerk_org_id", "answer"), name="creation_attempts_organization"
            ),
        ),
        _online.AddIndexOnline(
            model_name="membership",
            index=models.Index(
                condition=models.Q(("is_active", False)), fields=["id"], name="memberships_ended"
            ),
        ),
    ]
