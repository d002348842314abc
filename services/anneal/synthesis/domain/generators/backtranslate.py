"""Instruction backtranslation: a teacher reads an extract and writes questions that the extract answers.

Idea: Li et al. 2023, "Self-Alignment with Instruction Backtranslation", arXiv:2308.06259. Differs from the
paper: the answer is written too, and must rest on the extract, instead of being the web text itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model, model_validator

from anneal.synthesis.domain.answers import Unreadable, parse_items
from anneal.synthesis.domain.documents import Over, Passage, read_passages
from anneal.synthesis.domain.rows import MAX_RAW_CHARACTERS, Draft, Malformed, Message, Outcome
from anneal.synthesis.domain.schemas import without_string_bounds
from anneal.synthesis.domain.sentences import cut
from anneal.synthesis.domain.tasks import TemplateText, Where, passage_fields
from anneal.synthesis.domain.teacher import Call, Question, Reply
from anneal.synthesis.domain.templating import BadTemplate, Prompt

SYSTEM = (
    "You write training data for a question answering model. Use only facts that the extract states. "
    "Answer with one JSON object."
)
PROMPT = (
    "Extract from {{ document.title or name }}:\n\n{{ extract }}\n\n"
    "Write {{ pairs }} different questions or instructions that this extract answers, each with its complete answer. "
    'Format: {"pairs": [{"instruction": "...", "answer": "..."}]}'
)

Characters = Annotated[int, Field(ge=1, le=100_000)]


class Backtranslate(BaseModel):
    """Asks a teacher for instruction and answer pairs about each extract.

    Attributes:
        pairs: how many pairs one call asks for.
        min_extract_characters: shorter passages are not worth a call and are passed over.
        max_extract_characters: longer passages are cut at a sentence.
        teacher_system, teacher_prompt: what the teacher reads.
        prompt: what the student will read; name `extract` in it to teach reading instead of remembering.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    needs_teacher: ClassVar[bool] = True

    over: Over = Over.SECTIONS
    where: Where = Where()
    pairs: Annotated[int, Field(ge=1, le=20)] = 3
    min_extract_characters: Characters = 200
    max_extract_characters: Characters = 2_000
    min_instruction_characters: Characters = 8
    max_instruction_characters: Characters = 1_000
    min_answer_characters: Characters = 1
    max_answer_characters: Characters = 4_000
    system: TemplateText | None = None
    prompt: TemplateText = "{{ instruction }}"
    teacher_system: TemplateText = SYSTEM
    teacher_prompt: TemplateText = PROMPT

    @model_validator(mode="after")
    def _ranges_are_open(self) -> Backtranslate:
        for name in ("extract", "instruction", "answer"):
            low, high = (getattr(self, f"{side}_{name}_characters") for side in ("min", "max"))
            if low > high:
                raise ValueError(f"min_{name}_characters {low} is more than max_{name}_characters {high}")
        return self

    def propose(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Outcome | Question]:
        """One question per passage that is long enough."""
        for row in rows:
            found = read_passages(row, self.over)
            if isinstance(found, Malformed):
                yield found
                continue
            for passage in found:
                if len(passage.entry) >= self.min_extract_characters and self.where.holds(passage):
                    yield self._question(passage)

    def read(self, call: Call, reply: Reply) -> tuple[list[Outcome], bool]:
        """Each pair of the answer by itself: a bad one does not take the others with it."""
        try:
            parsed = parse_items(reply.text, "pairs", truncated=reply.finish_reason == "length")
        except Unreadable as error:
            return [_malformed(call.question.passage, error.cause, str(error), reply.text)], False
        extra = len(parsed.items) - self.pairs
        found = [self._pair(call, reply, index, item) for index, item in enumerate(parsed.items[: self.pairs])]
        if extra > 0:
            reason = f"{extra} pairs more than the {self.pairs} asked for"
            found.append(_malformed(call.question.passage, "surplus_pairs", reason, reply.text))
        return found, parsed.repaired

    def _question(self, passage: Passage) -> Question | Malformed:
        extract = cut(passage.entry, self.max_extract_characters)
        fields = {**passage_fields(passage, passage.signature), "extract": extract, "pairs": self.pairs}
        try:
            messages = (
                Message("system", self._compiled[self.teacher_system].render(fields)),
                Message("user", self._compiled[self.teacher_prompt].render(fields)),
            )
        except BadTemplate as error:
            return _malformed(passage, "template_failed", str(error), passage.entry)
        return Question(messages=messages, schema=self._schema, passage=passage, extract=extract)

    def _pair(self, call: Call, reply: Reply, index: int, item: Any) -> Outcome:
        question = call.question
        try:
            pair = self._pair_model.model_validate(item)
            instruction, answer = (str(getattr(pair, name)) for name in ("instruction", "answer"))
            fields = {
                **passage_fields(question.passage, question.passage.signature),
                **{"extract": question.extract, "pairs": self.pairs, "instruction": instruction, "answer": answer},
            }
            prompt = self._compiled[self.prompt].render(fields)
            system = self._compiled[self.system].render(fields) if self.system else ""
        except ValidationError as error:
            return _malformed(question.passage, "malformed_pair", _first_fault(error), str(item))
        except BadTemplate as error:
            return _malformed(question.passage, "template_failed", str(error), str(item))
        first = [Message("system", system)] if system else []
        return Draft(
            messages=(*first, Message("user", prompt), Message("assistant", answer)),
            source=question.passage.document.source,
            parents=(question.passage.document.id,),
            origin={"generator": "backtranslate", "pair": index, **question.passage.place},
            fresh=f"{instruction}\n{answer}",
            evidence=question.extract,
        )

    @cached_property
    def _compiled(self) -> dict[str, Prompt]:
        sources = (self.teacher_system, self.teacher_prompt, self.prompt, self.system)
        return {source: Prompt(source) for source in sources if source is not None}

    @cached_property
    def _pair_model(self) -> type[BaseModel]:
        def text(low: int, high: int) -> Any:
            return Annotated[str, StringConstraints(strip_whitespace=True, min_length=low, max_length=high)]

        return create_model(
            "Pair",
            __config__=ConfigDict(extra="forbid"),
            instruction=text(self.min_instruction_characters, self.max_instruction_characters),
            answer=text(self.min_answer_characters, self.max_answer_characters),
        )

    @cached_property
    def _schema(self) -> dict[str, Any]:
        items: Any = Annotated[list[self._pair_model], Field(min_length=1, max_length=self.pairs)]  # type: ignore[name-defined]
        whole = create_model("Pairs", __config__=ConfigDict(extra="forbid"), pairs=items)
        schema: dict[str, Any] = without_string_bounds(whole.model_json_schema())
        return schema


def _malformed(passage: Passage, cause: str, reason: str, raw: str) -> Malformed:
    return Malformed(
        file=passage.document.source,
        byte_offset=passage.byte_offset,
        cause=cause,
        reason=reason,
        raw=raw[:MAX_RAW_CHARACTERS],
    )


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'pair'}: {fault['msg']}"
