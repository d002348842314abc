"""Anneal: a company's documents and examples, turned into evaluated LoRA adapters behind an endpoint."""
