"""Migrations of the webhook inbox and of the data about Clerk that all processes share."""
