"""Remove secrets from text that leaves the process: log lines, and reports to Sentry.

Our own messages hold no secrets. An exception of a library may quote a header, a URL or a setting.
"""

import json
import re
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

REMOVED = "[removed]"

SETTINGS = ("SECRET_KEY", "CLERK_SECRET_KEY", "METRICS_TOKEN", "SENTRY_DSN", "SYNC_ALERT_WEBHOOK_URL")
LISTS = ("SECRET_KEY_FALLBACKS", "CLERK_WEBHOOK_SIGNING_SECRET")

MIN_LENGTH = 8
"""A shorter value is no secret, and may be a part of a word."""

SHAPES = (
    r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*",  # a session token
    r"\bsk_(?:test|live)_\w+",
    r"\bak_\w{8,}",
    r"\bwhsec_[\w+/=]+",
    r"(?<=://)[^\s/@\"']*:[^\s/@\"']+(?=@)",  # user and password of a URL
)


def remove_secrets(text: str) -> str:
    """Return the text without the secrets of the settings, tokens, and whatever has the shape of a key."""
    return _secrets(_values()).sub(REMOVED, text)


def without_secrets(value: Any) -> Any:
    """Return the same structure of dicts and lists, with the secrets removed from every text."""
    if isinstance(value, str):
        return remove_secrets(value)
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def _values() -> tuple[str, ...]:
    found = [str(getattr(settings, name, "")) for name in SETTINGS]
    for name in LISTS:
        found += getattr(settings, name, ())
    found.append(str(settings.DATABASES.get("default", {}).get("PASSWORD", "")))
    return tuple(found)


@lru_cache(maxsize=4)
def _secrets(values: tuple[str, ...]) -> re.Pattern[str]:
    # The path of the URL for alerts is its secret, and libraries name it without the host.
    paths = [urlsplit(value).path for value in values if value.startswith(("http://", "https://"))]
    known = {value for value in (*values, *paths) if len(value) >= MIN_LENGTH}
    known |= {json.dumps(value)[1:-1] for value in known}
    longest_first = sorted(known, key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, longest_first), *SHAPES]))
