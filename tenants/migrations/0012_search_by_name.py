from django.contrib.postgres.indexes import GinIndex
from django.db import migrations

from clerk_integration.migrations import _online
from tenants.sql import NameWords


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tenants', '0011_request_counts'),
    ]

    operations = [
        _online.AddIndexOnline(
            model_name='tenant',
            index=GinIndex(NameWords('name'), name='tenants_name_words'),
        ),
    ]
