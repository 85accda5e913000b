"""The setting `CACHES`: the cache that CACHE_URL names, or a cache in the memory of each process."""

from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

PER_PROCESS_URL = "locmemcache://"


def cache_settings(env: environ.Env) -> dict[str, Any]:
    """Return the settings of the default cache, without connecting to it.

    Raise ImproperlyConfigured if CACHE_URL cannot be read. The message never shows the value, because the
    value may hold a password.
    """
    url = env.str("CACHE_URL", default="").strip() or PER_PROCESS_URL
    try:
        cache: dict[str, Any] = environ.Env.cache_url_config(url)
    except (ImproperlyConfigured, ValueError):
        # `from None`: the parser's own message repeats parts of the URL.
        raise ImproperlyConfigured(
            "CACHE_URL cannot be read. Write SCHEME://HOST:PORT/NUMBER with one of the schemes "
            f"{', '.join(environ.Env.CACHE_SCHEMES)}, or leave it unset for a cache per process."
        ) from None
    return cache
