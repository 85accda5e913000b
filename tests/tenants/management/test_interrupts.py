"""Signals that stop a long command."""

import signal
import subprocess
import sys
import time
from threading import Thread

import pytest

from tenants.management.interrupts import stop_on_signals
from tests.children import PROJECT

SIGNAL_WHILE_THE_LOCK_IS_HELD = """
import signal
from tenants.management.interrupts import stop_on_signals

with stop_on_signals() as stopping:
    with stopping._cond:
        signal.raise_signal(signal.SIGTERM)
    assert stopping.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_on_signals_first_signal_sets_the_event(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stopping:
        assert not stopping.wait(0)
        signal.raise_signal(number)
        assert stopping.is_set()
        assert stopping.wait(60)
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_stop_on_signals_event_ends_the_wait_of_a_thread() -> None:
    with stop_on_signals() as stopping:
        waiting = Thread(target=stopping.wait)
        waiting.start()
        signal.raise_signal(signal.SIGTERM)
        waiting.join(10)
    assert not waiting.is_alive()


def test_stop_on_signals_wait_without_signal_ends_at_the_timeout() -> None:
    started = time.monotonic()
    with stop_on_signals() as stopping:
        assert not stopping.wait(0.05)
    assert time.monotonic() - started >= 0.05


def test_stop_on_signals_signal_while_the_event_is_locked_does_not_hang() -> None:
    """A second signal may interrupt the handler of the first one, in the middle of setting the event."""
    subprocess.run([sys.executable, "-c", SIGNAL_WHILE_THE_LOCK_IS_HELD], cwd=PROJECT, timeout=30, check=True)
