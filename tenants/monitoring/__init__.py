"""Report how far the mirror is from Clerk."""
