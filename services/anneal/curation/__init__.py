"""Curation: filter, deduplicate, decontaminate, split."""
