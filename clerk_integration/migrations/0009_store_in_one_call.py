from django.db import migrations

# The inbox is the queue, and a wake-up is a job without a delivery; see `clerk_integration.webhooks.wake_ups`.
# procrastinate_defer_jobs_v1 is Procrastinate's own function, which notifies the workers. The argument is the
# one of periodic tasks: the log leaves out periodic tasks that did nothing. ORDER BY makes PostgreSQL use
# Procrastinate's index, of which it then reads only the first entries.
WAKE = """
CREATE OR REPLACE FUNCTION webhook_deliveries_wake_worker() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (
        SELECT id FROM procrastinate_jobs
        WHERE status = 'todo' AND priority = 50 AND scheduled_at IS NULL
          AND task_name = 'clerk_integration.tasks.drain_webhooks'
        ORDER BY priority DESC, id LIMIT 1
    ) IS NULL THEN
        PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
            'webhooks', 'clerk_integration.tasks.drain_webhooks', 50, NULL, NULL, '{"timestamp": 0}', NULL
        )::procrastinate_job_to_defer_v1]);
    END IF;
END $$
"""

# Each session keeps the plans of a function. As one statement, the same takes twice as long, because
# PostgreSQL plans it anew for each delivery.
#
# the message id is          | delivery afterwards   | result | wakes a worker
# ---------------------------+-----------------------+--------+--------------------
# new                        | stored with `state`   | true   | if `state` is received
# known, failed, not claimed | received, due now     | false  | yes
# known otherwise            | unchanged             | false  | no
#
# The sender gives up after 15 s; a request that waits longer than 5 s for a lock only blocks a web worker.
STORE = """
CREATE OR REPLACE FUNCTION webhook_deliveries_store(
    message_id text, type text, organization text, event jsonb, state text
) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    is_new boolean;
BEGIN
    INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload, status)
    VALUES (message_id, type, organization, event, state)
    ON CONFLICT (svix_id) DO NOTHING;
    is_new := FOUND;
    IF NOT is_new THEN
        UPDATE webhook_deliveries
        SET status = 'received', attempts = 0, crashes = 0, due_at = now()
        WHERE svix_id = message_id AND status = 'failed' AND claim IS NULL;
    END IF;
    IF FOUND AND (state = 'received' OR NOT is_new) THEN
        PERFORM webhook_deliveries_wake_worker();
    END IF;
    RETURN is_new;
END $$
"""


class Migration(migrations.Migration):
    """Store a delivery, and wake a worker for it, in one call of a function."""

    dependencies = [
        ('clerk_integration', '0008_clerk_state'),
        ('procrastinate', '0001_initial'),
    ]

    operations = [
        migrations.RunSQL(WAKE, "DROP FUNCTION webhook_deliveries_wake_worker()"),
        migrations.RunSQL(
            STORE, "DROP FUNCTION webhook_deliveries_store(text, text, text, jsonb, text)"
        ),
    ]
