"""The job queue on Django's own connection: a job is added in the caller's transaction, or not at all.

Procrastinate's own `app` has separate connections in a worker: a job that is deferred through it stays
even if the task's transaction is rolled back.
"""

from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.manager import JobManager

MAINTENANCE = "maintenance"
"""The queue of tasks that may wait."""

queue = JobManager(DjangoConnector())
