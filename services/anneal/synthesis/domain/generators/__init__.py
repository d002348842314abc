"""The table of generators: one file each, one line here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from anneal.synthesis.domain.generators.backtranslate import Backtranslate
from anneal.synthesis.domain.generators.template import Template
from anneal.synthesis.domain.rows import Outcome
from anneal.synthesis.domain.teacher import Call, Question, Reply


class Generator(Protocol):
    """Turns rows of the input into rows of the output, by itself or with a teacher's help.

    It neither counts nor pays nor compares with what exists: budget, resume, novelty, grounding and
    provenance are the engine's.
    """

    needs_teacher: ClassVar[bool]

    def propose(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Outcome | Question]:
        """Rows, and questions whose answers will be rows, in the order of the input."""
        ...

    def read(self, call: Call, reply: Reply) -> tuple[list[Outcome], bool]:
        """The rows of an answer, and whether its text had to be mended."""
        ...


GENERATORS: Mapping[str, type[Template] | type[Backtranslate]] = {
    "backtranslate": Backtranslate,
    "template": Template,
}
