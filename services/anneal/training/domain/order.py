"""Which packed rows each step reads: a pure function of the seed and the step, so the data position is the step."""

from __future__ import annotations

import math
import random

from anneal.training.domain.spec import TrainingSpec


class Order:
    """The order in which packed rows are read.

    Each epoch reads every row once, in its own shuffled order; its last step may be smaller.
    """

    def __init__(self, spec: TrainingSpec, num_rows: int) -> None:
        """Fix how many steps there are."""
        self._spec = spec
        self._num_rows = num_rows
        self._rows_per_step = spec.rows_per_forward * spec.forwards_per_step
        self.steps_per_epoch = math.ceil(num_rows / self._rows_per_step)
        self.num_steps = spec.max_steps or max(1, round(self.steps_per_epoch * spec.num_epochs))

    def forwards(self, step: int) -> list[list[int]]:
        """Return the row numbers of each forward pass of one step, over all workers."""
        epoch, at = divmod(step, self.steps_per_epoch)
        rows = list(range(self._num_rows))
        random.Random(f"{self._spec.seed}/{epoch}").shuffle(rows)
        mine = rows[at * self._rows_per_step : (at + 1) * self._rows_per_step]
        size = self._spec.rows_per_forward
        return [mine[i : i + size] for i in range(0, len(mine), size)]

    def dropout_seed(self, step: int, forward: int) -> int:
        """Return the seed of one forward pass: the same whichever worker runs it, and after any restart."""
        return random.Random(f"{self._spec.seed}/{step}/{forward}").getrandbits(63)
