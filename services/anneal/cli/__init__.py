"""The `anneal` command: the services in one process, the loop, and every RPC from a shell."""

import os

# What a command has to say it says in a line of its own. gRPC's core adds others, as of a descriptor that a stopping
# server has closed already; it reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
