"""Everything that can go wrong between us and Clerk.

ClerkError
├── ClerkUnavailable                timeout, refused or reset connection, 5xx, 409 resource_locked: try later
│   ├── ClerkRateLimited            429: try again after `retry_after` seconds
│   └── SigningKeysUnavailable      no key to verify session tokens with; `retry_after` seconds
├── ClerkNotFound                   404: Clerk does not know this id
├── ClerkRejected                   Clerk refused the data: `code`, `message`, `param`
├── ClerkMisconfigured              401, other 403: our key or instance is wrong; a person must act
├── ClerkProtocolError              an answer that nothing can be read from
├── ListingIncomplete               a list changed during every pass, so no pass is known to be complete
├── InvalidClerkId                  an id that must not enter a path; nothing was sent
└── SessionTokenError               a session token that is refused: `code`, named after Clerk's own reasons
    └── SessionPending              genuine, but the session has a task to finish first
"""


class ClerkError(Exception):
    """Base of the tree; never raised itself. `trace_id` is Clerk's `clerk_trace_id`, when it sent one.

    `outcome_unknown` says that what was to be done in Clerk may have been carried out; it is false
    when nothing was sent, or when Clerk said that it did nothing.
    """

    outcome_unknown = False

    def __init__(self, message: str, *, trace_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.trace_id = trace_id


class ClerkUnavailable(ClerkError):
    """Clerk did not answer in time or could not serve."""

    def __init__(self, message: str, *, outcome_unknown: bool = True, trace_id: str | None = None) -> None:
        super().__init__(message, trace_id=trace_id)
        self.outcome_unknown = outcome_unknown


class ClerkRateLimited(ClerkUnavailable):
    """Clerk answered 429. Nothing was done; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float, trace_id: str | None = None) -> None:
        super().__init__(message, outcome_unknown=False, trace_id=trace_id)
        self.retry_after = retry_after


class ClerkNotFound(ClerkError):
    """Clerk does not know the id that was asked for."""


class ClerkRejected(ClerkError):
    """Clerk refused the request: `code` is Clerk's error code, `param` the field it names."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status_code: int,
        param: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        super().__init__(message, trace_id=trace_id)
        self.code = code
        self.status_code = status_code
        self.param = param


class ClerkMisconfigured(ClerkError):
    """The key, or what it may do, is wrong. No retry helps; an operator must act."""


class ClerkProtocolError(ClerkError):
    """Clerk's answer could not be read at all."""

    outcome_unknown = True


class ListingIncomplete(ClerkError):
    """Clerk's list changed during every pass over it, so no pass is known to be complete."""


class InvalidClerkId(ClerkError, ValueError):
    """The value is no Clerk id (the SDK would put it into a path unescaped). Nothing was sent."""


class SigningKeysUnavailable(ClerkUnavailable):
    """No key to verify session tokens with; the next fetch is allowed in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionTokenError(ClerkError):
    """The session token is refused; `message` is fit for its bearer, `code` is for programs."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class SessionPending(SessionTokenError):
    """The token is genuine, but its session is pending: Clerk wants a task done first."""


class ClerkCalledInTransaction(RuntimeError):
    """Clerk was called while a database transaction was open. Nothing was sent.

    A call takes up to its deadline and cannot be rolled back; rows stay locked meanwhile.
    """
