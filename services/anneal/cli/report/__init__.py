"""The report of a run: one JSON document, and a page with plots for people."""
