from django.db import migrations, models

from clerk_integration.migrations import _online


class Migration(migrations.Migration):

    atomic = False  # the receiver stores deliveries while the index is built

    dependencies = [
        ('clerk_integration', '0003_pace'),
    ]

    operations = [
        _online.AddIndexOnline(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('organization_id__isnull', False)), fields=['organization_id'], name='webhook_deliveries_org'),
        ),
    ]
