"""The synthesis service: documents in, training conversations out, within a budget."""
