"""Learn the assistant's answers, each from the prompt that serving sends for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.errors import NoAssistantTurn
from anneal.training.domain.samples import Sample, Span
from anneal.training.domain.template import ChatTemplate, Turn, refusing
from anneal.training.domain.truncation import shorter

Message = Mapping[str, Any]


class Instruction:
    """The learned turns of a conversation; the loss covers what the model has to write, up to its stop token.

    Turns share a sample where the longest sequence holds every other turn's prompt and answer token by token. Where a
    template writes earlier turns otherwise than serving once sent them, such as without their reasoning, each learned
    turn is a sample of its own, as in TRL and ms-swift.
    """

    record: ClassVar[str] = "conversation"
    needs_stop: ClassVar[bool] = True

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        context_tokens: int,
        template: ChatTemplate | None = None,
        strict: bool = True,
        shorten: bool = False,
    ) -> None:
        """Read the tokenizer's template.

        Args:
            tokenizer: the base model's.
            context_tokens: longest sample, for `shorten`.
            template: of the base model; None takes the tokenizer's with nothing else known.
            strict: refuse rows of which the template leaves out a part; else they are counted.
            shorten: conversations that are too long lose their earliest turns.
        """
        self.template = template or ChatTemplate(tokenizer)
        self._context_tokens, self._strict, self._shorten = context_tokens, strict, shorten
        self.counts: Counter[str] = Counter()
        """How many rows lost which field to the template, by `left_out:<field>`."""

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
        """Yield the samples of each conversation; several where a template rewrites earlier turns.

        Raises:
            TrainingRefused: a conversation cannot be learned; the refusal names row and field.
        """
        for row in rows:
            with refusing(row["id"]):
                yield from self._of_row(row)

    def _of_row(self, row: Mapping[str, Any]) -> Iterator[Sample]:
        messages: Sequence[Message] = row["messages"]
        learned = [i for i, message in enumerate(messages) if _weight(message)]
        if not learned:
            raise NoAssistantTurn(
                f"row {row['id']} has no turn of the assistant to learn from (no such turn, or each has the weight 0)",
                row_id=row["id"],
            )
        conversation = self.template.conversation(messages, row.get("tools"))
        turns = [conversation.turn(i, strict=self._strict) for i in learned]
        left_out = {_kind(field) for turn in turns for field in turn.left_out}
        self.counts.update(f"left_out:{field}" for field in left_out)
        for group in _grouped(turns):
            sample = _sample(group, messages, row["id"])
            if self._shorten and len(sample) > self._context_tokens:
                for turn in group:
                    yield self._shortened(row, turn)
            else:
                yield sample

    def _template_turn(self, row: Mapping[str, Any], messages: Sequence[Message], index: int) -> Turn:
        return self.template.turn(messages, index, row.get("tools"), strict=self._strict)

    def _shortened(self, row: Mapping[str, Any], turn: Turn) -> Sample:
        """A turn with as much of what stands before it as fits; as long as before where not even the answer does."""
        messages: Sequence[Message] = row["messages"]
        if len(turn.prompt_ids) + len(turn.target_ids) <= self._context_tokens:
            return _sample([turn], messages, row["id"])

        def fits(some: Sequence[Message]) -> Turn | None:
            made = self._template_turn(row, some, len(some) - 1)
            return made if len(made.prompt_ids) + len(made.target_ids) <= self._context_tokens else None

        found = shorter(messages[: turn.index + 1], fits)
        if found is None:
            return _sample([turn], messages, row["id"])
        some, made = found
        sample = _sample([made], some, row["id"])
        return Sample(
            sample.token_ids,
            sample.is_target,
            sample.row_id,
            is_truncated=True,
            weights=sample.weights,
            spans=sample.spans,
            messages=tuple(some),
        )


def _weight(message: Message) -> float:
    """What the loss gives a message: 1 for the assistant's and 0 for all others, unless the row says otherwise."""
    if message["role"] != "assistant":
        return 0.0
    weight = message.get("weight")
    return 1.0 if weight is None else float(weight)


def _kind(field: str) -> str:
    """`messages[3].content` of one row and `messages[5].content` of another are the same loss."""
    return field.split("[")[0] + (field.rsplit("]", 1)[-1] if "]" in field else "")


def _grouped(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Turns that one sequence holds: the last one's, with every earlier prompt and answer in it token by token."""
    groups: list[list[Turn]] = []
    for turn in reversed(turns):
        home = next((group for group in groups if _holds(group[0], turn)), None)
        if home is None:
            groups.append([turn])
        else:
            home.append(turn)
    return [list(reversed(group)) for group in reversed(groups)]


def _holds(longer: Turn, turn: Turn) -> bool:
    sequence = longer.prompt_ids
    begin, end = len(turn.prompt_ids), len(turn.prompt_ids) + len(turn.target_ids)
    return sequence[:begin] == turn.prompt_ids and sequence[begin:end] == turn.target_ids


def _sample(group: Sequence[Turn], messages: Sequence[Message], row_id: str) -> Sample:
    longest = group[-1]
    token_ids = [*longest.prompt_ids, *longest.target_ids]
    spans = tuple(Span(t.index, len(t.prompt_ids), len(t.prompt_ids) + len(t.target_ids)) for t in group)
    is_target = [False] * len(token_ids)
    weights = [0.0] * len(token_ids)
    for span in spans:
        weight = _weight(messages[span.turn])
        is_target[span.start : span.end] = [True] * (span.end - span.start)
        weights[span.start : span.end] = [weight] * (span.end - span.start)
    is_plain = all(weight in (0.0, 1.0) for weight in weights)
    return Sample(token_ids, is_target, row_id, weights=None if is_plain else weights, spans=spans)
