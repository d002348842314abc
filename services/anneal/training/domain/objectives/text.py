"""Learn raw text: every token from those before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.samples import Sample


class Text:
    """Documents cut into pieces of at most a context; each document's end is marked by the end-of-text token."""

    record: ClassVar[str] = "document"
    needs_stop: ClassVar[bool] = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, context_tokens: int) -> None:
        """Take `<|endoftext|>` where the tokenizer has it, else its end-of-sequence token, as the document's end."""
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        vocabulary = tokenizer.get_vocab()
        self._end = vocabulary.get("<|endoftext|>", tokenizer.eos_token_id)

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
        """Yield the pieces of each document; a piece of one token predicts nothing and is left out."""
        for row in rows:
            ids = list(self._tokenizer(row["text"], add_special_tokens=False)["input_ids"])
            if self._end is not None:
                ids.append(self._end)
            for start in range(0, len(ids), self._context_tokens):
                piece = ids[start : start + self._context_tokens]
                if len(piece) > 1:
                    yield Sample(piece, [False] + [True] * (len(piece) - 1), row["id"])
