"""Migrations of the webhook inbox and of what all processes share about Clerk."""
