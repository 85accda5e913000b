"""What the commands about tenants share: following a run, and stopping on signals."""
