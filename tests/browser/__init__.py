"""The admin in a real browser: Chromium, gunicorn, a worker and the local Clerk.

`pytest -m slow tests/browser` runs all of it, and skips it where no Chromium is installed. Afterwards the
screenshots of all pages are in `screenshots/`.
"""
