from django.db import migrations, models
from django.db.models.functions import Now

from clerk_integration.migrations import _online

# Until now, each waiting delivery had a job. A failed delivery without a job is not tried again.
QUEUE_RECEIVED = """
UPDATE webhook_deliveries SET due_at = now() WHERE status = 'received' AND due_at IS NULL
"""

QUEUE_FAILED = """
UPDATE webhook_deliveries SET due_at = coalesce(scheduled_at, now()) FROM procrastinate_jobs AS job
WHERE webhook_deliveries.status = 'failed' AND due_at IS NULL AND job.status = 'todo'
  AND task_name = 'clerk_integration.tasks.process_webhook_delivery'
  AND args->>'delivery_id' = webhook_deliveries.id::text
"""

REMOVE_JOBS = """
DELETE FROM procrastinate_jobs
WHERE status = 'todo' AND task_name IN (
    'clerk_integration.tasks.process_webhook_delivery', 'clerk_integration.tasks.rescue_deliveries')
"""


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('clerk_integration', '0006_adopted_instance'),
        ('procrastinate', '0001_initial'),
    ]

    operations = [
        # First without a default, which would give old deliveries a next attempt, too.
        _online.Step(
            [
                migrations.AddField(
                    model_name='webhookdelivery',
                    name='claim',
                    field=models.UUIDField(blank=True, editable=False, null=True),
                ),
                migrations.AddField(
                    model_name='webhookdelivery',
                    name='due_at',
                    field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name='next attempt'),
                ),
                migrations.AlterField(
                    model_name='webhookdelivery',
                    name='due_at',
                    field=models.DateTimeField(blank=True, db_default=Now(), editable=False, null=True, verbose_name='next attempt'),
                ),
            ],
            table="webhook_deliveries",
            column="due_at",
        ),
        migrations.RunSQL(QUEUE_RECEIVED, migrations.RunSQL.noop),
        migrations.RunSQL(QUEUE_FAILED, migrations.RunSQL.noop),
        migrations.RunSQL(REMOVE_JOBS, migrations.RunSQL.noop),
        _online.AddIndexOnline(
            model_name='webhookdelivery',
            index=models.Index(
                fields=['due_at', 'id'],
                condition=models.Q(('claim', None), ('crashes', 0), ('status__in', ['received', 'failed'])),
                name='webhook_deliveries_due',
            ),
        ),
        _online.AddIndexOnline(
            model_name='webhookdelivery',
            index=models.Index(
                fields=['due_at', 'id'],
                condition=models.Q(('claim__isnull', False), ('crashes__gt', 0), _connector='OR'),
                name='webhook_deliveries_recovery',
            ),
        ),
    ]
