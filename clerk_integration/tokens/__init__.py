"""Clerk session tokens: verification, claims and signing keys."""
