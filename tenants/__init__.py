"""The domain: owns the rows of tenants and memberships, and decides what Clerk's facts mean for them."""
