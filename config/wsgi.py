"""WSGI entry point: `gunicorn -c python:config.gunicorn config.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

from config.chunked_bodies import ChunkedBodies
from config.web_connections import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

limit_statements()
application = ChunkedBodies(get_wsgi_application())
