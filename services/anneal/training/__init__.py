"""Training: fine-tunes a base model on a dataset and publishes an adapter or a model."""
