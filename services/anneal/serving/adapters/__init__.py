"""Outside things: vLLM in a process of its own, adapter files, the registry."""
