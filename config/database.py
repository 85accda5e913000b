"""The database of the settings: the database named by DATABASE_URL, or an embedded PostgreSQL."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config.embedded_postgres.location import Location
from config.flags import flag

EMBEDDED_ENGINE = "config.embedded_postgres"
UNCONFIGURED_ENGINE = "config.unconfigured_database"

POSTGRESQL_SCHEMES = ("postgres", "postgresql", "psql", "pgsql")

# Keep an idle connection for a minute, and check the connection before the next request.
CONN_MAX_AGE_SECONDS = 60
# If the database drops packets, a request fails instead of occupying its thread for minutes.
CONNECTION_OPTIONS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
# psycopg's pool, one per process. `timeout` is how long a thread waits for a free connection. While the
# database is down, the pauses between attempts to connect double, up to `reconnect_timeout`.
POOL_OPTIONS: dict[str, Any] = {"min_size": 1, "max_size": 16, "timeout": 5, "reconnect_timeout": 10}


def database_settings(env: environ.Env, *, debug: bool, base_dir: Path) -> dict[str, Any]:
    """Return the settings of the default database, without starting a server or connecting to one.

    | DATABASE_URL | debug | database                                                              |
    | ------------ | ----- | --------------------------------------------------------------------- |
    | set          | any   | the database that it names                                            |
    | unset        | true  | the embedded PostgreSQL of the project in `base_dir`                  |
    | unset        | false | a backend that raises ImproperlyConfigured as soon as a query is made |

    Raise ImproperlyConfigured if DATABASE_URL is not a PostgreSQL URL, or if DATABASE_POOL is neither true
    nor false. The message never shows the URL, because the URL holds the password.
    """
    url = env.str("DATABASE_URL", default="").strip()
    if url:
        return _configured(url, pool=flag(env, "DATABASE_POOL", default=False))
    if debug:
        return _embedded(base_dir)
    return {"ENGINE": UNCONFIGURED_ENGINE, "NAME": "unconfigured"}


def _configured(url: str, *, pool: bool) -> dict[str, Any]:
    # Checked before parsing: django-environ's warning about an unknown scheme contains the password.
    if url.partition("://")[0] not in POSTGRESQL_SCHEMES:
        raise ImproperlyConfigured(f"DATABASE_URL does not name a PostgreSQL database. {_EXPECTED_URL}")
    try:
        database: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError:
        # `from None`: the parser's own message repeats parts of the URL.
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read. {_EXPECTED_URL}") from None
    options = database.setdefault("OPTIONS", {})
    if not database["NAME"] and "service" not in options:
        raise ImproperlyConfigured(f"DATABASE_URL names no database. {_EXPECTED_URL}")
    if _is_percent_encoded_path(url):
        database["HOST"] = unquote(_host(url))
    database.setdefault("CONN_MAX_AGE", 0 if pool else CONN_MAX_AGE_SECONDS)
    database.setdefault("CONN_HEALTH_CHECKS", True)
    for name, value in CONNECTION_OPTIONS.items():
        options.setdefault(name, value)
    if pool:
        options.setdefault("pool", POOL_OPTIONS)
    return database


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].partition(":")[0]


def _is_percent_encoded_path(url: str) -> bool:
    # The directory of a Unix socket, as libpq writes it. The parser would return it in lower case.
    return _host(url).lower().startswith("%2f")


_EXPECTED_URL = (
    "The only database is PostgreSQL 14 or newer: postgres://USER:PASSWORD@HOST:PORT/NAME, with "
    "special characters of the password percent-encoded."
)


def _embedded(base_dir: Path) -> dict[str, Any]:
    if os.name != "posix":
        raise ImproperlyConfigured(
            "The embedded PostgreSQL of development runs on Linux and macOS only. "
            "Set DATABASE_URL to a PostgreSQL server, or work inside WSL."
        )
    location = Location.of(base_dir)
    return {
        "ENGINE": EMBEDDED_ENGINE,
        "NAME": location.database,
        "USER": location.user,
        "HOST": str(location.socket_dir),
        "PORT": str(location.port),
        # Django passes unknown keys to the backend.
        "PROJECT_DIR": base_dir,
        "TEST": {"NAME": location.test_database},
        "CONN_MAX_AGE": CONN_MAX_AGE_SECONDS,
        "CONN_HEALTH_CHECKS": True,
    }
