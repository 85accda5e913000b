"""Clerk's webhooks: verified, stored in the inbox, processed by workers, replayed and purged."""
