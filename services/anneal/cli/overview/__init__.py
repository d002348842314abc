"""What a dataset version looks like, as text and as a page."""
