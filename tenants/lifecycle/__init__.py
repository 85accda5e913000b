"""Change a tenant's own state: primary, link and deletion, one function per change."""
