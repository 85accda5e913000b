"""Migrations of tenants, memberships and the record of long work."""
