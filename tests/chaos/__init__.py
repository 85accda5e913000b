"""Scripts that put the project under stress and print figures. Run one with `python -m tests.chaos.NAME`.

| script          | does                                                                              |
| --------------- | --------------------------------------------------------------------------------- |
| `disturbances`  | kills, freezes and misleads each part of a deployment in turn, under steady load  |
| `soak`          | mixed load for half an hour, with workers replaced and the database crashed       |
| `forged_keys`   | floods the server with tokens that name unknown keys                              |
| `hanging_clerk` | lets Clerk hang, rate limit, reset or refuse, and measures what users notice       |
| `slow_bodies`   | holds connections open with bodies that never end                                 |
"""
