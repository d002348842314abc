"""The `anneal` command: the services in one process, the loop, and every RPC from a shell."""
