"""Prints the actions and results of the demo."""

import json
from collections.abc import Iterable
from typing import Any

import httpx
from django.core.management.base import OutputWrapper
from django.core.management.color import Style

from tenants.demo.processes import StepFailed

SYNC_HEADER = "X-Clerk-Sync"
SHOWN_CHARACTERS = 500


class Report:
    """Prints to the command's standard output, with colours at a terminal."""

    def __init__(self, output: OutputWrapper, style: Style) -> None:
        self._output, self._style = output, style

    def line(self, text: str) -> None:
        """Print a line and flush the output."""
        self._output.write(text)
        self._output.flush()

    def heading(self, text: str) -> None:
        """Print an empty line and a title."""
        self.line(f"\n{self._style.MIGRATE_HEADING(text)}")

    def fact(self, label: str, value: str) -> None:
        """Print a value with its label."""
        self.line(f"   {label:<15}{value}")

    def records(self, records: Iterable[Any]) -> None:
        """Print one JSON record a line."""
        for record in records:
            self.line(f"     {json.dumps(record)}")

    def verified(self, claim: str) -> None:
        """Print a verified claim."""
        self.line(self._style.SUCCESS(f"   ok: {claim}"))


def ok(answer: httpx.Response) -> httpx.Response:
    """Return the answer; raise StepFailed unless the status is 200."""
    if answer.status_code != httpx.codes.OK:
        raise StepFailed(f"{summary(answer)}: {shortened(answer.text)}")
    return answer


def summary(answer: httpx.Response) -> str:
    """Return one line: the request, the status, the sync header if the answer has one, and the duration."""
    sync = answer.headers.get(SYNC_HEADER)
    header = f", {SYNC_HEADER}: {sync}" if sync else ""
    call = f"{answer.request.method} {answer.request.url.raw_path.decode()}"
    return f"{call} -> {answer.status_code}{header}, {answer.elapsed.total_seconds() * 1000:.0f} ms"


def shortened(found: object) -> str:
    """Return `found` as text that is short enough for a message."""
    text = str(found)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
