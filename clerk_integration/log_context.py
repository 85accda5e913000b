"""Keep the values that every log line of a request or a job names: its id, the webhook, the tenant.

`config.logs` adds them to the log lines of this repository's server. Another project may call `log_context`
in a logging filter of its own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

NOTHING: Mapping[str, object] = MappingProxyType({})

_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=NOTHING)


def log_context() -> Mapping[str, object]:
    """Return the values for a log line, such as `request_id`, `tenant`, `organization`, `svix_id`, `job`."""
    return _context.get()


def begin_log_context(**values: object) -> None:
    """Begin a request or a job: forget the values of the one before."""
    _context.set(values)


def add_to_log(**values: object) -> None:
    """Add values until the request or job ends, or the block of `added_to_log`; None adds nothing."""
    given = {name: value for name, value in values.items() if value is not None}
    if given:
        _context.set({**_context.get(), **given})


@contextmanager
def added_to_log(**values: object) -> Iterator[None]:
    """Add values for the block."""
    token = _context.set(_context.get())
    add_to_log(**values)
    try:
        yield
    finally:
        _context.reset(token)
