"""The environment of child processes that use the test's database and local Clerk."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from django.db import connection

PROJECT = Path(__file__).parents[1]


def child_environment(clerk: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables that make `manage.py` use this process's database and the local Clerk."""
    database = connection.settings_dict
    where = urlencode({"host": database["HOST"], "port": database["PORT"]})
    return {
        **os.environ,
        "DATABASE_URL": f"postgres://{database['USER']}@/{database['NAME']}?{where}",
        "CLERK_API_URL": clerk["apiUrl"],
        "CLERK_SECRET_KEY": clerk["secretKey"],
        "CLERK_INSTANCE_ID": clerk["instanceId"],
    }
