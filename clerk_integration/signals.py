"""Signals that this app sends to the apps that depend on it."""

from django.dispatch import Signal

nightly = Signal()
"""Sent once a night, at 03:00 UTC, in a worker, without sender or arguments.

Receivers are called one after the other, even if an earlier one failed, and may be called twice in a night.
Long work belongs in a job of its own, which the receiver enqueues.
"""
