"""Store tenants and memberships, and apply Clerk's records to them."""
