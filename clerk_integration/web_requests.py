"""Whether the running code serves a web request, where no thread may wait for long."""

from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync

_is_serving: ContextVar[bool] = ContextVar("is_serving_web_request", default=False)


def begin_request(**kwargs: Any) -> None:
    """Count all later code of this thread as serving a request; receiver of Django's `request_started`."""
    _is_serving.set(True)


def end_request(**kwargs: Any) -> None:
    """Stop counting this thread; receiver of Django's `request_finished`."""
    _is_serving.set(False)


def is_serving_request() -> bool:
    """Return whether the running code serves a web request, under WSGI or ASGI.

    Under ASGI, a receiver of `request_started` cannot set a context variable for the view. Django's ASGI
    handler gives each request a thread-sensitive context instead.
    """
    return _is_serving.get() or SyncToAsync.thread_sensitive_context.get(None) is not None
