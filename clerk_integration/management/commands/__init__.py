"""The `manage.py` commands that know Clerk and nothing of tenants."""
