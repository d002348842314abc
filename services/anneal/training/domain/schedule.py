"""The learning rate as a pure function of the step, so that a resumed run cannot be off by one."""

from __future__ import annotations

import math

from anneal.training.domain.spec import TrainingSpec


def num_warmup_steps(spec: TrainingSpec, num_steps: int) -> int:
    """Return how many steps rise to the highest learning rate."""
    return math.ceil(spec.warmup_share * num_steps)


def learning_rate(spec: TrainingSpec, step: int, num_steps: int) -> float:
    """Return the learning rate of step `step` (the first is 0) of `num_steps`.

    It rises in a line over the warm-up, reaches `spec.learning_rate` on its last step, and then decays to
    `final_share` of it on the very last step.
    """
    warmup = num_warmup_steps(spec, num_steps)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    left = max(1, num_steps - 1 - warmup)
    progress = min(1.0, (step - warmup) / left)
    match spec.schedule:
        case "linear":
            share = 1 - progress
        case "cosine":
            share = (1 + math.cos(math.pi * progress)) / 2
        case _:
            return spec.learning_rate
    return spec.learning_rate * (spec.final_share + (1 - spec.final_share) * share)
