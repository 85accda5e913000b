"""The `manage.py` commands that use Clerk and do not use the tenants app."""
