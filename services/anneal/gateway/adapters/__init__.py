"""Outside things: the services behind the gateway, and HTTP."""
