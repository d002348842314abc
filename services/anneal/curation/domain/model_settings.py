"""The settings of a sequence classifier that scores rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anneal.curation.domain.needs import need

MAX_BATCH_ROWS = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A model with a trained classification head, in transformers' format with safetensors weights.

    Attributes:
        name: folder where the job runs, or id on a hub.
        revision: branch, tag or commit on the hub; a commit is the only one that stays what it is.
        max_tokens: longest input in tokens; None takes the model's own limit.
        batch_rows: rows in one forward pass, 1 to 1,024. Scores are rounded to 4 decimals, because the last digits of
            a float depend on the rows beside it; with 1 nothing does.
        device: where it runs; `auto` takes a GPU if there is one.
        dtype: precision of its weights.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    name: str
    revision: str = ""
    max_tokens: int | None = None
    batch_rows: int = 16
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        need(bool(self.name.strip()), "name", "is blank")
        need(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", f"{self.max_tokens} is not above 0")
        fits = 1 <= self.batch_rows <= MAX_BATCH_ROWS
        need(fits, "batch_rows", f"{self.batch_rows} is not within 1 and {MAX_BATCH_ROWS}")
