"""Help the commands about tenants to follow a run and to stop on signals."""
