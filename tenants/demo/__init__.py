"""`manage.py demo`: the main job, end to end, on one machine with nothing set up.

`environment` keeps what is configured here out of it; `servers` starts a local Clerk and the web
server as processes of their own, `database` gives them a database of their own; `walk` does what a
client does and verifies each answer; `run` puts these together.
"""
