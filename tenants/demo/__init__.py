"""`manage.py demo`: show the main features, end to end, on one machine without any configuration.

`run` starts everything; `walk` takes the steps in `listing`, `outage`, `webhooks` and `migration`; each step
verifies its results through a `scene`.
"""
