"""Makes `gunicorn config.wsgi` use the settings of `config.gunicorn`: gunicorn reads this file by itself.

Without the file, a command that forgets `-c python:config.gunicorn` serves with a worker that slow clients
can block.
"""

from config.gunicorn import *  # noqa: F403
