"""What staff may do with tenants in the admin: buttons, list actions and their pages."""

from tenants.admin.actions.buttons import Button, buttons_for
from tenants.admin.actions.views import TenantActions

__all__ = ["Button", "TenantActions", "buttons_for"]
