"""Change a tenant's own state: primary, link, restore and deletion, one function per change."""
