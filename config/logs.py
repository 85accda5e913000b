"""Logging through structlog: readable lines (`console`), or one JSON object a line (`json`)."""

import logging
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LEVELS = logging.getLevelNamesMapping()

REQUEST_LOGGERS = ("django.request", "django.server", "django.security", "gunicorn.access")
QUERY_STRING = re.compile(r"\?[^\s\"']*")


def remove_query_string(_: Any, __: str, event: "EventDict") -> "EventDict":
    """Remove query strings, which may hold names, tokens and search terms, from lines about requests."""
    # The repr of a request contains the query string, too. The message has the method or the path.
    event.pop("request", None)
    if str(event.get("logger")).startswith(REQUEST_LOGGERS):
        event["event"] = QUERY_STRING.sub("", str(event["event"]))
    return event


class StructlogFormatter(logging.Formatter):
    """Formats records by structlog, as `json` or for the `console`.

    The first record imports structlog, which takes as long as Django's own start. Most commands log nothing.
    """

    def __init__(self, renderer: str) -> None:
        super().__init__()
        self._renderer = renderer

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        return self._formatter.format(record)

    @cached_property
    def _formatter(self) -> logging.Formatter:
        import structlog  # noqa: PLC0415  (see the class)

        renderers: list[Processor] = (
            [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            if self._renderer == "json"
            # The default formatter prints the local variables of every frame, including passwords and keys.
            else [
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
                )
            ]
        )
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                remove_query_string,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )


def logging_settings(*, level: str, fmt: str) -> dict[str, Any]:
    """Return the setting LOGGING. All records go to stderr; `fmt` is `json` or `console`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {"()": "config.logs.StructlogFormatter", "renderer": fmt},
        },
        "filters": {"jobs": {"()": "clerk_integration.jobs.logs.JobLogFilter"}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "structlog", "filters": ["jobs"]}
        },
        "root": {"handlers": ["stderr"], "level": level.upper() if level.upper() in LEVELS else "INFO"},
        "loggers": {
            # Without this, Django's own handlers write every record a second time.
            "django": {"handlers": []},
            "django.server": {"handlers": [], "propagate": True},
            # httpx logs a line at INFO for every request of Clerk's SDK.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            # health_check logs a traceback for every failed check; `config.health` logs each change instead.
            "health_check": {"level": "CRITICAL"},
            # Procrastinate logs a line about its tasks whenever a process starts.
            "procrastinate.blueprints": {"level": "WARNING"},
            "procrastinate.periodic": {"level": "WARNING"},
            # The pool logs every attempt to connect; the worker's connector reports an outage once.
            "psycopg.pool": {"level": "ERROR"},
        },
    }
