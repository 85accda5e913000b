"""The admin pages of webhook deliveries, and the base classes of read-only pages."""

from clerk_integration.admin.deliveries import WebhookDeliveryAdmin

__all__ = ["WebhookDeliveryAdmin"]
