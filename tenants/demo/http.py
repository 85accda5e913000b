"""HTTP calls of a demo, timed, with whatever was answered."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

import requests

from tenants.demo.exceptions import StepFailed

TIMEOUT_SECONDS = 30.0
"""How long the demo itself waits; far more than anything here may take."""

SYNC_HEADER = "X-Clerk-Sync"

SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Answer:
    """How a call was answered; `body` is the JSON, or the text when it is none."""

    call: str
    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float

    def __str__(self) -> str:
        """The call, the status, the sync header if there is one, and the time it took."""
        sync = self.headers.get(SYNC_HEADER)
        header = f", {SYNC_HEADER}: {sync}" if sync else ""
        return f"{self.call} -> {self.status}{header}, {self.seconds * 1000:.0f} ms"

    def require_ok(self) -> Self:
        """Return itself; raise StepFailed unless the status is 200."""
        if self.status != HTTPStatus.OK:
            raise StepFailed(f"{self}: {shortened(self.body)}")
        return self


class HttpClient:
    """Calls one server with one bearer token."""

    def __init__(self, base_url: str, bearer: str | None = None) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        # No proxy and no .netrc: the servers are on this machine, the token is ours.
        self._session.trust_env = False
        if bearer is not None:
            self._session.headers["Authorization"] = f"Bearer {bearer}"

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Send `body` as JSON and return the answer, whatever its status; raise StepFailed without one."""
        started = time.monotonic()
        try:
            response = self._session.request(
                method, f"{self._base_url}{path}", json=body, timeout=TIMEOUT_SECONDS
            )
        except requests.RequestException as error:
            raise StepFailed(f"{method} {path} got no answer: {error}") from error
        return Answer(
            call=f"{method} {path}",
            status=response.status_code,
            headers=response.headers,
            body=_parsed(response),
            seconds=time.monotonic() - started,
        )


def _parsed(response: requests.Response) -> Any:
    try:
        return response.json()
    except requests.JSONDecodeError:
        return response.text


def shortened(found: object) -> str:
    """Return `found` as text of a length that a message can hold."""
    text = str(found)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
