"""Signals for the apps that build on this one."""

from django.dispatch import Signal

nightly = Signal()
"""Sent once a night, at 03:00 UTC, in a worker, by no sender and with no arguments.

Receivers run one after the other, each whatever becomes of the others, and may be called twice in a
night. Long work belongs in a job of its own, which the receiver enqueues.
"""
