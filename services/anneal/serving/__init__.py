"""Serving: vLLM, many adapters on one base."""
