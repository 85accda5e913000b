"""Clerk's paths."""
