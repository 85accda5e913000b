"""Scripts that put the project under stress and print figures. Run one with `python -m tests.chaos.NAME`."""
