"""CACHE_URL, and what happens without it; nothing is reached by asking."""

from typing import Any

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from config.cache import cache_settings


def settings_for(**variables: str) -> dict[str, Any]:
    env = environ.Env()
    env.ENVIRON = variables
    return cache_settings(env)


@pytest.mark.parametrize("variables", [{}, {"CACHE_URL": ""}, {"CACHE_URL": "  "}])
def test_cache_url_unset_or_empty_is_a_cache_per_process(variables: dict[str, str]) -> None:
    assert settings_for(**variables)["BACKEND"] == "django.core.cache.backends.locmem.LocMemCache"


def test_cache_url_readable_is_used() -> None:
    cache = settings_for(CACHE_URL=" rediscache://:hunter2@cache.example:6379/1 ")

    assert cache["BACKEND"] == "django.core.cache.backends.redis.RedisCache"
    assert cache["LOCATION"] == "redis://:hunter2@cache.example:6379/1"


@pytest.mark.parametrize("url", ["hunter2", "hunter2://cache.example", "redis://:hunter2@[cache/0"])
def test_cache_url_unreadable_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"CACHE_URL cannot be read") as refusal:
        settings_for(CACHE_URL=url)

    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
