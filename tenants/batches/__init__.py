"""Change the tenants that staff have selected: a few in the request, many in a run of workers."""
