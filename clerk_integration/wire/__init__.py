"""Requests to Clerk: one request with its deadline and errors, and complete listings read page by page."""
