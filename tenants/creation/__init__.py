"""Create one organization in Clerk for one request: one POST, never two."""
