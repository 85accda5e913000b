"""Everything that can go wrong between us and Clerk.

ClerkError
├── ClerkUnavailable                timeout, refused or reset connection, 5xx, 409 resource_locked: try later
│   ├── ClerkRateLimited            429: try again after `retry_after` seconds
│   ├── ClerkNotAsked               Clerk has not answered earlier requests; nothing was sent
│   └── SigningKeysUnavailable      no key to verify session tokens with; `retry_after` seconds
├── ClerkNotFound                   404: Clerk does not know this id
├── ClerkRejected                   Clerk refused the data: `code`, `message`, `param`
├── ClerkMisconfigured              401, other 403: the key or instance is wrong; an operator must act
│   └── WrongInstance               the key or CLERK_INSTANCE_ID is of another instance than the stored one
├── ClerkProtocolError              the reply cannot be read
├── ListingIncomplete               the list changed during every pass, so records may have been missed
├── InvalidClerkId                  the id must not enter a path; nothing was sent
└── SessionTokenError               the session token is refused: `code`, named after Clerk's own reasons
    └── SessionPending              the token is genuine, but its session has a task to finish first
"""


class ClerkError(Exception):
    """Base of the tree; never raised itself.

    `outcome_unknown` is true if Clerk may have carried out the request. It is false if nothing was sent,
    or if Clerk answered that it did nothing. `trace_id` is the reply's `clerk_trace_id`.
    """

    outcome_unknown = False
    trace_id: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClerkUnavailable(ClerkError):
    """Clerk did not answer in time or could not serve the request.

    `is_outage` is false if Clerk answered and only refuses this request for now.
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
    """Nothing was sent: Clerk has not answered earlier requests, or too many threads wait for it."""

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
    """The key or its permissions are wrong. No retry helps; an operator must act."""


class WrongInstance(ClerkMisconfigured):
    """The key, or CLERK_INSTANCE_ID, is of another Clerk instance than this database; nothing was changed."""


class ClerkProtocolError(ClerkError):
    """Clerk's reply could not be read."""

    outcome_unknown = True


class ListingIncomplete(ClerkError):
    """Clerk's list changed during every pass over it, so records may have been missed."""


class InvalidClerkId(ClerkError, ValueError):
    """The value is not a Clerk id (the SDK would put it into a path unescaped). Nothing was sent."""


class SigningKeysUnavailable(ClerkUnavailable):
    """There is no key to verify session tokens with; the next fetch is allowed in `retry_after` seconds."""

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
