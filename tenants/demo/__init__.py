"""`manage.py demo`: the main job, end to end, on one machine with nothing set up.

`run` starts everything; `walk` takes the steps in `listing`, `outage`, `webhooks` and `migration`; each step
verifies its results through a `scene`.
"""
