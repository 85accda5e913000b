"""Files that operators hand in: parse them, import tenants, link tenants."""
