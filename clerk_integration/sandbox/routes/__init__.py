"""The handlers of Clerk's API paths."""
