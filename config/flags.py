"""Settings that are true or false, from the environment."""

import environ
from django.core.exceptions import ImproperlyConfigured

from clerk_integration.conf import truth_of


def flag(env: environ.Env, name: str, *, default: bool) -> bool:
    """Return the setting; `default` if it is unset or empty.

    Raise ImproperlyConfigured if it is neither true nor false. The message names the setting.
    """
    text = env.str(name, default="").strip()
    value = truth_of(text) if text else default
    if value is None:
        raise ImproperlyConfigured(f"{name} is neither true nor false.")
    return value
