"""The `manage.py` commands about tenants."""
