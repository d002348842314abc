"""Curation against its peers: `python -m benchmarks.curation` (`make bench-curation`)."""
