"""Everything that knows Clerk: requests to its API, session tokens, webhooks; nothing of tenants."""
