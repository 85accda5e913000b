"""The job queue on Django's own connection: a job is added in the caller's transaction.

In a worker, Procrastinate's own `app` uses separate connections. A job that is deferred through `app`
therefore stays even if the task's transaction is rolled back.
"""

from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.manager import JobManager

MAINTENANCE = "maintenance"
"""The queue of tasks that may wait."""

queue = JobManager(DjangoConnector())
