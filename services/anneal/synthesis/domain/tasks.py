"""A task as data: which passages it is asked over, how it is put, and what the answer is."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from anneal.synthesis.domain.documents import Over, Passage
from anneal.synthesis.domain.rows import digest
from anneal.synthesis.domain.sentences import sentences
from anneal.synthesis.domain.templating import Prompt

Scalar = str | int | float | bool

_PLAIN_PARAM = re.compile(r"\*{0,2}[A-Za-z_]\w*")


def _compiles(source: str) -> str:
    Prompt(source)
    return source


TemplateText = Annotated[str, AfterValidator(_compiles)]
Words = tuple[str, ...]
Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Where(_Model):
    """Conditions on a passage; all that are given must hold.

    Attributes:
        types, domains: the markup's own words ("function" in "py").
        sources: glob patterns of the group keys, which are document uris.
        levels: section levels.
        min_characters, max_characters: length of the entry, signature included.
        min_sentences, max_sentences: sentences in the body.
        min_params, max_params: number of parameters.
        plain_params: every parameter is a name, with up to two stars before it; markup that Sphinx could not
            parse gives others ("ctx=None", "...").
        skip_bodies_starting_with: bodies that open with a note instead of a description.
        equals: allowed values by column; a dot reads into a JSON column ("meta.topic").
    """

    types: Words = ()
    domains: Words = ()
    sources: Words = ()
    languages: Words = ()
    levels: tuple[int, ...] = ()
    min_characters: Count | None = None
    max_characters: Count | None = None
    min_body_characters: Count | None = None
    max_body_characters: Count | None = None
    min_sentences: Count | None = None
    max_sentences: Count | None = None
    min_params: Count | None = None
    max_params: Count | None = None
    plain_params: bool = False
    skip_bodies_starting_with: Words = ()
    equals: dict[str, tuple[Scalar, ...]] = {}

    @model_validator(mode="after")
    def _ranges_are_open(self) -> Where:
        for name in ("characters", "body_characters", "sentences", "params"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{name} {low} is more than max_{name} {high}")
        return self

    def holds(self, passage: Passage) -> bool:
        """Whether the task is asked over this passage."""
        document = passage.document
        return (
            _among(passage.type, self.types)
            and _among(passage.domain, self.domains)
            and _among(document.language, self.languages)
            and _among(passage.level, self.levels)
            and (not self.sources or any(fnmatchcase(document.source, glob) for glob in self.sources))
            and _between(len(passage.entry), self.min_characters, self.max_characters)
            and _between(len(passage.body), self.min_body_characters, self.max_body_characters)
            and _between(len(passage.params), self.min_params, self.max_params)
            and (not self.plain_params or all(_PLAIN_PARAM.fullmatch(name) for name in passage.params))
            and not passage.body.startswith(self.skip_bodies_starting_with or ("\0",))
            and self._counts_sentences(passage)
            and all(_column(document.columns, path) in allowed for path, allowed in self.equals.items())
        )

    def _counts_sentences(self, passage: Passage) -> bool:
        if self.min_sentences is None and self.max_sentences is None:
            return True
        return _between(len(sentences(passage.body)), self.min_sentences, self.max_sentences)


class Task(_Model):
    """One kind of question over one kind of passage.

    Attributes:
        prompts: phrasings of the same question; a passage always gets the same one, chosen by its digest.
        answer: template of the reference.
        label: template of a class name; with `max_rows_per_label` it balances the classes.
        hide_leading_words: words taken off the front of the signature before any template sees it.
        hide_answer_from: fields in which the answer must not stand as a word of its own.
        max_rows, max_rows_per_label: the rows with the smallest digests stay, so the choice never depends on order.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    over: Over
    where: Where = Where()
    system: TemplateText | None = None
    prompts: Annotated[tuple[TemplateText, ...], Field(min_length=1, max_length=16)]
    answer: TemplateText
    label: TemplateText | None = None
    hide_leading_words: Words = ()
    hide_answer_from: Words = ()
    min_prompt_characters: Count = 1
    max_prompt_characters: Count | None = None
    min_answer_characters: Count = 1
    max_answer_characters: Count | None = None
    max_rows: Annotated[int, Field(ge=1)] | None = None
    max_rows_per_label: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Task:
        if self.max_rows_per_label is not None and self.label is None:
            raise ValueError("max_rows_per_label needs a label")
        return self

    @cached_property
    def digest(self) -> str:
        """Digest of everything that shapes the task's rows."""
        return "sha256:" + digest(self.model_dump(mode="json"))

    @cached_property
    def compiled(self) -> dict[str, Prompt]:
        """The task's templates by their source."""
        sources = (*self.prompts, self.answer, self.system, self.label)
        return {source: Prompt(source) for source in sources if source is not None}

    def fields(self, passage: Passage) -> dict[str, Any]:
        """What the templates see of a passage."""
        signature = without_leading_words(passage.signature, self.hide_leading_words)
        return passage_fields(passage, signature)


def passage_fields(passage: Passage, signature: str) -> dict[str, Any]:
    """The template fields of a passage, shown with this signature."""
    document = passage.document
    return {
        "name": passage.name,
        "type": passage.type,
        "signature": signature,
        "params": list(passage.params),
        "body": passage.body,
        "entry": f"{signature}\n{passage.body}" if signature else passage.body,
        "section": passage.section,
        "level": passage.level,
        "title": document.title,
        "text": passage.body,
        "document": {"title": document.title, "uri": document.uri, "language": document.language},
        "row": dict(document.columns),
    }


def without_leading_words(text: str, words: Words) -> str:
    """The text without any of `words` at its front, however many stand there."""
    rest = text.lstrip()
    while words:
        head, _, tail = rest.partition(" ")
        if head not in words or not tail:
            break
        rest = tail.lstrip()
    return rest


def stands_in(answer: str, text: str) -> bool:
    """Whether the answer occurs in the text as a word of its own, in any case."""
    return bool(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE))


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    return not allowed or value in allowed


def _between(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _column(columns: Any, path: str) -> Any:
    for part in path.split("."):
        columns = columns.get(part) if isinstance(columns, dict) else None
    return columns
