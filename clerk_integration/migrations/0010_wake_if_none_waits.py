from importlib import import_module

from django.db import migrations

BEFORE = import_module("clerk_integration.migrations.0009_store_in_one_call").STORE

# As in 0009, but it first looks for a waiting wake-up. `webhook_deliveries_wake_worker` looks again, with the same
# condition; a call takes longer than the search. Change both functions together.
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
        IF (
            SELECT id FROM procrastinate_jobs
            WHERE status = 'todo' AND priority = 50 AND scheduled_at IS NULL
              AND task_name = 'clerk_integration.tasks.drain_webhooks'
            ORDER BY priority DESC, id LIMIT 1
        ) IS NULL THEN
            PERFORM webhook_deliveries_wake_worker();
        END IF;
    END IF;
    RETURN is_new;
END $$
"""


class Migration(migrations.Migration):
    """Look for a waiting wake-up before the function that adds one is called."""

    dependencies = [
        ('clerk_integration', '0009_store_in_one_call'),
    ]

    operations = [
        migrations.RunSQL(STORE, BEFORE),
    ]
