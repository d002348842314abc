"""Curation's rules and values: pure functions over Arrow batches, no transport, no clock, no environment."""
