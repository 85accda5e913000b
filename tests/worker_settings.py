"""Settings of the workers that the tests start: handlers of the tests', and dead sooner."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, PROCRASTINATE_WORKER_DEFAULTS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.worker_app"]
PROCRASTINATE_WORKER_DEFAULTS = {
    **PROCRASTINATE_WORKER_DEFAULTS,
    "update_heartbeat_interval": 0.5,
    "stalled_worker_timeout": 2.0,
    "fetch_job_polling_interval": 0.5,
}
