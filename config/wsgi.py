"""WSGI entry point: `gunicorn -c python:config.gunicorn config.wsgi`."""

import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config.charsets import IgnoreOddCharsets
from config.chunked_bodies import ChunkedBodies
from config.telemetry import start_tracing
from config.web_connections import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

limit_statements()
start_tracing(settings.OTEL_EXPORTER_OTLP_ENDPOINT)
application = IgnoreOddCharsets(ChunkedBodies(get_wsgi_application()))

# Imported by the first request otherwise, which would have to wait for it.
import_module("clerk_integration.tokens.bearer")
