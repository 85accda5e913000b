"""ASGI entry point."""

import os
from importlib import import_module

from django.conf import settings
from django.core.asgi import get_asgi_application

from config.charsets import IgnoreOddCharsetsOfAsgi
from config.telemetry import start_tracing
from config.web_connections import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Each request has a thread of its own under ASGI. A connection that is kept is never used again.
settings.DATABASES["default"]["CONN_MAX_AGE"] = 0

limit_statements()
start_tracing(settings.OTEL_EXPORTER_OTLP_ENDPOINT)
application = IgnoreOddCharsetsOfAsgi(get_asgi_application())

# Imported by the first request otherwise, which would have to wait for it.
import_module("clerk_integration.tokens.bearer")
