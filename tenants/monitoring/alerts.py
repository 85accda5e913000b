"""Send lasting problems, and the all-clear, to SYNC_ALERT_WEBHOOK_URL, in the JSON that Slack accepts.

Workers check every minute (`tenants.tasks`). The processes of the web server check, too (`config.gunicorn`),
because no worker can report that no worker is running; `manage.py send_alerts` is for other web servers, by
cron. All share the rows of `Alert`, so that each message is sent once:

| problem is found | row                               | action of a check                          |
| ---------------- | --------------------------------- | ------------------------------------------ |
| yes              | none                              | insert the row                             |
| yes              | not sent, younger than PATIENCE   | nothing: the problem may be a restart      |
| yes              | not sent, older, or in the future | claim, send, set `sent_at`                 |
| yes              | sent REMIND_AFTER ago             | claim, send again, set `sent_at`           |
| no               | not sent                          | delete the row                             |
| no               | sent                              | claim, send the all-clear, delete the row  |

A row or a claim in the future was written before the database's clock was set back; it delays no message.
A message that could not be sent is tried again by the next check, a minute later.
"""

import logging
import random
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus

from django.db import Error, connections
from django.db.models import Q
from django.db.models.functions import Now

from clerk_integration.conf import setting
from clerk_integration.instance import stored_instance_id
from tenants.models import Alert
from tenants.monitoring.numbers import read_numbers
from tenants.monitoring.problems import find_problems

logger = logging.getLogger(__name__)

CHECK_SECONDS = 60.0

PATIENCE = timedelta(minutes=2)
"""How long a problem lasts before it is sent."""

REMIND_AFTER = timedelta(hours=24)

CLAIM = timedelta(minutes=1)
"""How long a process may take to send; longer than TIMEOUT_SECONDS."""

TIMEOUT_SECONDS = (3.0, 10.0)
"""To connect, and to wait for the answer."""


def send_alerts() -> Mapping[str, str]:
    """Send the messages that are due; return the problems that were found, by kind.

    Do nothing if SYNC_ALERT_WEBHOOK_URL is not set. Write `tenant_alerts`. A failure to send is logged.
    """
    if not setting("SYNC_ALERT_WEBHOOK_URL"):
        return {}
    problems = dict(find_problems(read_numbers()))
    _record(problems)
    for alert in Alert.objects.order_by("found_at"):
        if alert.kind in problems:
            _send_problem(alert)
        else:
            _send_all_clear(alert)
    return problems


def watch() -> None:
    """Send the messages that are due every minute, for ever; run it in a thread of the web server."""
    # The processes of a server start together.
    time.sleep(random.uniform(0, CHECK_SECONDS))  # noqa: S311  (not security)
    while True:
        try:
            send_alerts()
        except Error as error:
            logger.warning("Alerts were not checked, because of the database: %s", type(error).__name__)
        except Exception:
            logger.exception("Alerts were not checked")
        finally:
            connections.close_all()
        time.sleep(CHECK_SECONDS)


def start_watching() -> None:
    """Start the thread of `watch`, if SYNC_ALERT_WEBHOOK_URL is set."""
    if setting("SYNC_ALERT_WEBHOOK_URL"):
        threading.Thread(target=watch, name="alerts", daemon=True).start()


def _record(problems: Mapping[str, str]) -> None:
    """Insert new problems, update the messages of known ones, and delete the unsent ones that are gone."""
    Alert.objects.bulk_create(
        [Alert(kind=kind, message=message) for kind, message in problems.items()],
        update_conflicts=True,
        unique_fields=["kind"],
        update_fields=["message"],
    )
    Alert.objects.filter(sent_at=None).exclude(kind__in=problems).delete()


def _send_problem(alert: Alert) -> None:
    is_lasting = Q(found_at__lte=Now() - PATIENCE) | Q(found_at__gt=Now())
    if not _claim(alert, Q(is_lasting, sent_at=None) | Q(sent_at__lte=Now() - REMIND_AFTER)):
        return
    if post(f"Problem ({alert.kind}): {alert.message}"):
        Alert.objects.filter(pk=alert.pk).update(sent_at=Now(), claimed_until=None)
    else:
        _release(alert)


def _send_all_clear(alert: Alert) -> None:
    if not _claim(alert, Q(sent_at__isnull=False)):
        return
    if post(f"Solved ({alert.kind}). The problem was: {alert.message}"):
        alert.delete()
    else:
        _release(alert)


def _claim(alert: Alert, condition: Q) -> bool:
    """Return whether this process may send the message, and no other process may until the claim ends."""
    free = Q(claimed_until=None) | ~Q(claimed_until__range=(Now(), Now() + 2 * CLAIM))
    claimed = Alert.objects.filter(condition, free, pk=alert.pk)
    return claimed.update(claimed_until=Now() + CLAIM) > 0


def _release(alert: Alert) -> None:
    Alert.objects.filter(pk=alert.pk).update(claimed_until=None)


def post(text: str) -> bool:
    """Post a message to SYNC_ALERT_WEBHOOK_URL; return whether it was accepted. Log a failure.

    Neither the log nor an error names the URL, because its path is the secret. Redirects are not followed:
    the message goes to the host that the setting names.
    """
    # It takes a tenth of the time of `manage.py check` to import, and only a message needs it.
    import requests  # noqa: PLC0415

    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = {"text": f"[tenants, Clerk instance {stored_instance_id() or 'unknown'}] {escaped}"}
    try:
        answer = requests.post(
            setting("SYNC_ALERT_WEBHOOK_URL"), json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
        is_accepted = HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES
        refusal = "" if is_accepted else str(answer.status_code)
    except requests.RequestException as error:
        refusal = type(error).__name__
    if refusal:
        logger.warning(
            "An alert was not sent (SYNC_ALERT_WEBHOOK_URL: %s). The next check sends it again.",
            refusal,
        )
    return not refusal
