"""gunicorn's log in the form of the other logs; the access log is on with `--access-logfile -`."""

import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from gunicorn import glogging  # type: ignore[import-untyped]

from config.logs import StructlogFormatter


class Logger(glogging.Logger):  # type: ignore[misc]  # untyped library
    """Writes every line through StructlogFormatter. The access log names no query string."""

    def setup(self, cfg: Any) -> None:
        """Set the formatter of gunicorn's handlers. gunicorn calls this at its start."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.setFormatter(StructlogFormatter(settings.LOG_FORMAT))

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Write one line for a request, if the access log is on."""
        if not self.access_log.handlers:
            return
        method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")
        headers = {name.lower(): value for name, value in resp.headers}
        fields = {
            "status": resp.status_code,
            "bytes": resp.sent,
            "seconds": request_time.total_seconds(),
            "client": environ.get("REMOTE_ADDR"),
            "agent": environ.get("HTTP_USER_AGENT"),
            # The log context may be that of an earlier request, if this one did not reach Django.
            "request_id": headers.get("x-request-id"),
        }
        self.access_log.log(logging.INFO, "%s %s", method, path, extra=fields)
