"""How far rounding alone moves serving's logprobs from training's, and how far planted bugs do."""
