"""Read the files that operators hand in: import tenants, link tenants to organizations."""
