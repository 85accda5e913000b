"""Requests to Clerk: single requests with deadlines and errors, and complete listings."""
