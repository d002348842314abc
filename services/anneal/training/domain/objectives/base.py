"""The contract of an objective."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.samples import Sample
from anneal.training.domain.template import ChatTemplate


class Objective(Protocol):
    """Turns rows into samples."""

    record: ClassVar[str]
    """Kind of row it reads: `document` or `conversation`."""
    needs_stop: ClassVar[bool]
    """Whether every target run must end in a stop token."""

    counts: Counter[str]
    """What happened to rows on the way, such as parts that the template leaves out."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        context_tokens: int,
        template: ChatTemplate | None = None,
        strict: bool = True,
        shorten: bool = False,
    ) -> None: ...

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
        """Yield the samples of each row, in order."""
        ...
