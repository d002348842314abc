"""Metrics, benchmarks and verdicts: what a model is worth, with its error bar and its baseline."""
