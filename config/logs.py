"""Logging through structlog: readable lines (`console`), or one JSON object a line (`json`).

Each line names the request, webhook, job, tenant and organization that the code works on. Secrets are removed
from the whole line. Control characters from outside are escaped, so that no value can form a line.
"""

import logging
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clerk_integration.log_context import log_context
from config.redaction import remove_secrets

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LEVELS = logging.getLevelNamesMapping()

REQUEST_LOGGERS = ("django.request", "django.server", "django.security", "gunicorn.access")
ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004  (of one byte)
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}

QUERY_STRING = re.compile(r"\?[^\s\"']*")


def remove_query_string(_: Any, __: str, event: "EventDict") -> "EventDict":
    """Remove query strings, which may hold names, tokens and search terms, from lines about requests."""
    # The repr of a request contains the query string, too. The message has the method or the path.
    event.pop("request", None)
    if str(event.get("logger")).startswith(REQUEST_LOGGERS):
        event["event"] = QUERY_STRING.sub("", str(event["event"]))
    return event


def add_context(_: Any, __: str, event: "EventDict") -> "EventDict":
    """Add the log context, and the current tenant if it is known already."""
    values = {**log_context(), **event}
    if scopes := sys.modules.get("tenants.scoping.context"):
        tenant = scopes.known_tenant()
        if tenant is not None:
            values.setdefault("tenant", tenant.pk)
            values.setdefault("organization", tenant.clerk_org_id)
    return values


def escape_control_characters(_: Any, __: str, event: "EventDict") -> "EventDict":
    """Escape control characters and line separators, except in tracebacks, which have lines of their own."""
    return {
        name: value.translate(ESCAPES) if isinstance(value, str) and name != "exception" else value
        for name, value in event.items()
    }


class StructlogFormatter(logging.Formatter):
    """Formats records by structlog, as `json` or for the `console`.

    The first record imports structlog, which takes as long as Django's own start. Most commands log nothing.
    """

    def __init__(self, renderer: str) -> None:
        super().__init__()
        self._renderer = renderer

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        return remove_secrets(self._formatter.format(record))

    @cached_property
    def _formatter(self) -> logging.Formatter:
        import structlog  # noqa: PLC0415  (see the class)

        renderers: list[Processor] = (
            [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            if self._renderer == "json"
            # The default formatter prints the local variables of every frame, including passwords and keys.
            else [
                escape_control_characters,
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
                ),
            ]
        )
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                add_context,
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
            # urllib3 logs the path of each request at DEBUG. The path of SYNC_ALERT_WEBHOOK_URL is a secret.
            "urllib3": {"level": "ERROR"},
            # health_check logs a traceback for every failed check; `config.health` logs each change instead.
            "health_check": {"level": "CRITICAL"},
            # Procrastinate logs a line about its tasks whenever a process starts.
            "procrastinate.blueprints": {"level": "WARNING"},
            "procrastinate.periodic": {"level": "WARNING"},
            # The pool logs every attempt to connect; the worker's connector reports an outage once.
            "psycopg.pool": {"level": "ERROR"},
        },
    }
