"""`manage.py demo`: the main job, end to end, on one machine with nothing set up.

`environment` keeps what is configured here out of it; `servers` starts a local Clerk, the web server
and a worker as processes of their own, `database` gives them a database of their own; `walk` takes the
steps in `listing`, `outage`, `webhooks` and `migration`, each of which verifies in a `scene` what it
claims; `run` puts these together.
"""
