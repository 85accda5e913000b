"""Invoices with lines: a product on top of tenants, in which every way to the rows stays inside a tenant."""
