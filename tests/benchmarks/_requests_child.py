"""A web process without a server: its WSGI application is called here, and it measures itself.

It reads one JSON object from stdin (`paths`, by name, `rounds`, and `as_staff`), and prints the seconds of
each request, by name. The paths take turns. The requests carry a session token, or the session of a staff
user. For a session token, a statement and json.dumps are measured as the floor.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402  (Django is set up first)
from django.test import Client, override_settings  # noqa: E402

from tests.benchmarks import _bare_lists as bare  # noqa: E402
from tests.benchmarks._turns import seconds_of, take_turns  # noqa: E402
from tests.tokens import public_pem, session_token  # noqa: E402

WARM_UP = 5


def main() -> None:
    """Measure everything."""
    task = json.load(sys.stdin)
    with override_settings(ROOT_URLCONF=bare.__name__, CLERK_JWT_KEY=public_pem(), CLERK_ISSUER=""):
        application = get_wsgi_application()
        caller = _staff() if task["as_staff"] else _clerk_user()
        ways = {
            name: seconds_of(partial(_request, application, path, caller))
            for name, path in task["paths"].items()
        }
        if not task["as_staff"]:
            ways["floor"] = seconds_of(bare.floor)
        turns = take_turns(ways, rounds=task["rounds"], warm_up=WARM_UP)
    sys.stdout.write(json.dumps(turns.samples) + "\n")


def _clerk_user() -> dict[str, str]:
    token = session_token(sub=bare.USER, exp=int(time.time()) + 3600)
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


def _staff() -> dict[str, str]:
    user, _ = User.objects.get_or_create(username="staff", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    return {
        "HTTP_COOKIE": f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    }


def _request(application: WSGIApplication, path: str, caller: dict[str, str]) -> None:
    """Make one request, up to the end that lets Django look after its connections."""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_HOST": "127.0.0.1",
        **caller,
    }
    setup_testing_defaults(environ)
    response = application(environ, _expect_success)
    b"".join(response)
    response.close()  # type: ignore[attr-defined]  # as PEP 3333 demands of servers


def _expect_success(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
    assert status.startswith("200"), status
    return lambda data: None


if __name__ == "__main__":
    main()
