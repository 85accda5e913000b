"""Create an organization in Clerk with one POST, even if the request is repeated."""
