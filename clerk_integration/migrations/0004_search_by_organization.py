from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False  # the receiver stores deliveries while the index is built

    dependencies = [
        ('clerk_integration', '0003_pace'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('organization_id__isnull', False)), fields=['organization_id'], name='webhook_deliveries_org'),
        ),
    ]
