"""Conversations to token ids, once for training, evaluation and serving: what is served is what was trained."""
