"""Change a tenant's own state: primary, name, status, link, restore and deletion, one function per change."""
