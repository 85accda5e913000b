"""Admin pages of what Clerk sent: webhook deliveries."""

from clerk_integration.admin.deliveries import WebhookDeliveryAdmin

__all__ = ["WebhookDeliveryAdmin"]
