"""Exceptions of requests to Clerk and of session tokens.

ClerkError
├── ClerkUnavailable                timeout, refused or reset connection, 5xx, 409 resource_locked: try later
│   ├── ClerkRateLimited            429: try again after `retry_after` seconds
│   ├── ClerkNotAsked               Clerk has not answered earlier requests; nothing was sent
│   └── SigningKeysUnavailable      no key to verify session tokens: try again after `retry_after` seconds
├── ClerkNotFound                   404: Clerk does not know this id
├── ClerkRejected                   Clerk refused the data: `code`, `message`, `param`
├── ClerkMisconfigured              401, other 403: the key or instance is wrong; an operator must act
│   └── WrongInstance               key or CLERK_INSTANCE_ID belong to another instance than the stored one
├── ClerkProtocolError              the reply cannot be read
├── ListingIncomplete               the list changed during every pass, so records may have been missed
├── InvalidClerkId                  the value is not a Clerk id; nothing was sent
└── SessionTokenError               the session token is refused: `code`, named after Clerk's own reasons
    └── SessionPending              the token is valid, but the user must finish a session task first
"""


class ClerkError(Exception):
    """Base class; only subclasses are raised.

    `outcome_unknown` is true if Clerk may have executed the request. It is false if nothing was sent, or if
    Clerk answered that nothing was done. `trace_id` is the `clerk_trace_id` of Clerk's reply.
    """

    outcome_unknown = False
    trace_id: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClerkUnavailable(ClerkError):
    """Clerk did not answer in time or could not serve the request.

    `is_outage` is false if Clerk answered and refuses only this request, temporarily.
    """

    is_outage = True

    def __init__(self, message: str, *, outcome_unknown: bool = True) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class ClerkRateLimited(ClerkUnavailable):
    """Clerk answered 429 and did nothing; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, outcome_unknown=False)
        self.retry_after = retry_after


class ClerkNotAsked(ClerkUnavailable):
    """Nothing was sent: Clerk did not answer earlier requests, or too many threads wait for Clerk."""

    def __init__(self, message: str) -> None:
        super().__init__(message, outcome_unknown=False)


class ClerkNotFound(ClerkError):
    """Clerk does not know the id in the request."""


class ClerkRejected(ClerkError):
    """Clerk refused the request: `code` is Clerk's error code, `param` the field that Clerk names."""

    def __init__(self, message: str, *, code: str, status_code: int, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status_code = status_code
        self.param = param


class ClerkMisconfigured(ClerkError):
    """The key or its permissions are wrong. Retries do not help; an operator must act."""


class WrongInstance(ClerkMisconfigured):
    """The key or CLERK_INSTANCE_ID belongs to another Clerk instance than this database.

    Nothing was changed.
    """


class ClerkProtocolError(ClerkError):
    """Clerk's reply could not be read."""

    outcome_unknown = True


class ListingIncomplete(ClerkError):
    """Clerk's list changed during every pass over it, so records may have been missed."""


class InvalidClerkId(ClerkError, ValueError):
    """The value is not a Clerk id. Nothing was sent, because the SDK does not escape ids in paths."""


class SigningKeysUnavailable(ClerkUnavailable):
    """No key is available to verify session tokens; the next fetch is allowed in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionTokenError(ClerkError):
    """The session token is refused. `message` may be shown to the client; `code` is for programs."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class SessionPending(SessionTokenError):
    """The token is valid, but its session is pending: the user must finish a session task first."""


class ClerkCalledInTransaction(RuntimeError):
    """Clerk was called while a database transaction was open. Nothing was sent.

    A call may take until its deadline, while the transaction keeps rows locked. A rollback does not undo a
    call.
    """
