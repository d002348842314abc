"""Learn raw text: every token from those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.samples import Sample
from anneal.training.domain.template import ChatTemplate


class Text:
    """Documents cut into pieces of at most a context; each document's end is marked by the end-of-text token.

    Every piece begins as serving begins a raw text: with the BOS token where the tokenizer has one.
    """

    record: ClassVar[str] = "document"
    needs_stop: ClassVar[bool] = False

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        context_tokens: int,
        template: ChatTemplate | None = None,
        strict: bool = True,
        shorten: bool = False,
    ) -> None:
        """Take the token that ends a text: `<|endoftext|>` or `<|end_of_text|>` where there is one, else EOS.

        The EOS token of a chat model ends a turn, not a text.
        """
        del strict, shorten  # nothing of a document is left out or too long: it is cut into pieces
        self._template = template or ChatTemplate(tokenizer)
        self._context_tokens = context_tokens
        vocabulary = tokenizer.get_vocab()
        ends = (vocabulary.get(name) for name in ("<|endoftext|>", "<|end_of_text|>"))
        self._end = next((end for end in ends if end is not None), tokenizer.eos_token_id)
        self.counts: Counter[str] = Counter()

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
        """Yield the pieces of each document; an empty document is counted, and nothing is learned from it."""
        begin = self._template.text_ids("")
        room = max(1, self._context_tokens - len(begin))
        for row in rows:
            ids = self._template.text_ids(row["text"])[len(begin) :]
            if not ids:
                self.counts["empty_rows"] += 1
                continue
            if self._end is not None:
                ids.append(self._end)
            for start in range(0, len(ids), room):
                piece = [*begin, *ids[start : start + room]]
                if len(piece) > 1:
                    targets = [i >= max(1, len(begin)) for i in range(len(piece))]
                    yield Sample(piece, targets, row["id"])
