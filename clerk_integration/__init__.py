"""All code that communicates with Clerk: API requests, session tokens, webhooks; nothing about tenants."""
