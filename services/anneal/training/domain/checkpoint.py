"""What a checkpoint holds, and what the loop asks of whatever keeps it.

The learning rate, the data position and every random choice are functions of the seed and the step (`schedule`,
`order`), so the step is all the state they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer


@dataclass(slots=True)
class Progress:
    """What the loop knows besides tensors.

    Attributes:
        step: steps finished; also the data position.
        best_step: step whose validation loss is the lowest so far; None before the first validation.
        best_loss: that loss.
        num_stale: validations since then.
        is_finished: no step is left to do.
        curve: every report so far, as plain values.
    """

    step: int
    best_step: int | None
    best_loss: float | None
    num_stale: int
    is_finished: bool
    curve: list[dict[str, Any]]


class Checkpoints(Protocol):
    """Keeps checkpoints; a kept one is whole."""

    def save(
        self, progress: Progress, weights: dict[str, Tensor], optimizer: Optimizer, best: dict[str, Tensor] | None
    ) -> None:
        """Keep the state after `progress.step` steps, with the best weights so far."""
        ...

    def load(
        self, weights: dict[str, Tensor], optimizer: Optimizer
    ) -> tuple[Progress, dict[str, Tensor] | None] | None:
        """Read the newest checkpoint into the live tensors; None when there is none.

        Raises:
            CheckpointForeign: it was made by another spec, dataset or base.
        """
        ...
