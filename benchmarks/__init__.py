"""What is measured, how, and the last results: one module per subject, run by `make bench`."""
