"""What a model is trained to say: one file per objective, one line in `OBJECTIVES`."""

from __future__ import annotations

from anneal.training.domain.objectives.base import Objective
from anneal.training.domain.objectives.instruction import Instruction
from anneal.training.domain.objectives.text import Text

OBJECTIVES: dict[str, type[Objective]] = {"instruction": Instruction, "text": Text}

__all__ = ["OBJECTIVES", "Instruction", "Objective", "Text"]
