"""The ready pipelines, on rows."""

from __future__ import annotations

import random
from typing import Any

import pytest

from anneal.curation import codec
from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.domain.engine import NamedStep, curate
from anneal.curation.domain.hashing_encoder import HashingEncoder
from anneal.curation.domain.pipelines import PIPELINES
from anneal.curation.domain.steps.decontaminate import Decontaminate, Decontamination
from anneal.curation.domain.steps.semantic_duplicates import SemanticComparison, SemanticDuplicates
from anneal.curation.settings import CurationOptions
from anneal.kit.errors import Invalid
from anneal.v1 import curation_service_pb2 as pb
from tests.unit.curation.rows import InMemory, PartsInMemory, asked, batch_of

SYLLABLES = ["ba", "cor", "del", "fin", "gra", "hol", "lim", "mon", "nav", "per", "quan", "ris", "sol", "tam", "ver"]
VOCABULARY = [first + second for first in SYLLABLES for second in SYLLABLES]


def order(pipeline: str = "", *steps: pb.CurationStep) -> pb.CurateDatasetRequest:
    sources = ["projects/p/datasets/d/versions/latest"]
    return pb.CurateDatasetRequest(parent="projects/p", dataset_id="d", sources=sources, pipeline=pipeline, steps=steps)


def run_pipeline(name: str, rows: list[dict[str, Any]], exam: list[dict[str, Any]]) -> InMemory:
    named = []
    for step_name, step in codec.decode_order(order(name), CurationOptions()):
        made: Any = step
        if isinstance(step, SemanticDuplicates):
            made = SemanticComparison(step=step, encoder=HashingEncoder(512))
        if isinstance(step, Decontaminate):
            index = step.index()
            index.add("b", [batch_of(exam)], step.methods)
            made = Decontamination(step=step, index=index)
        named.append(NamedStep(step_name, made))
    memory = InMemory([("train", row) for row in rows])
    outcome = curate(named, memory, PartsInMemory(), Threads(2), memory, lambda *_: None)
    assert outcome.rows_in == len(memory.kept) + len(memory.removed) == len(rows)
    return memory


def sound(n: int) -> dict[str, Any]:
    chance = random.Random(n)
    words = chance.sample(VOCABULARY, 48)
    sentences = [f"The {' '.join(words[at : at + 4])} of {' '.join(words[at + 4 : at + 8])}." for at in range(0, 48, 8)]
    return asked(f"What is the {' '.join(chance.sample(VOCABULARY, 6))} about?", " ".join(sentences), f"page-{n}.html")


@pytest.mark.parametrize("name", ["instruction-default", "strict"])
def test_conversations(name: str) -> None:
    exam = asked(
        "Which planet of the solar system has the most moons that anybody has seen so far?", "It is Saturn.", "e.html"
    )
    rows = [sound(n) for n in range(60)]
    bad = {
        "empty_answer": asked("q", "", "x1"),
        "refusal": asked("How do I do it?", "I'm sorry, but I can't help with that.", "x2"),
        "exact_duplicate": {**rows[3], "source": "x3"},
    }
    mail = asked("Whom do I ask about the budget of the cluster?", "Write to jane.doe@example.org about it.", "x4")
    memory = run_pipeline(name, [*rows, *bad.values(), mail, {**exam, "source": "x5"}], [exam])
    left = {verdict.removal.reason for _, verdict in memory.removed}
    assert set(bad) <= left
    assert "exact_match" in left or exam["id"] in {row["id"] for split, row in memory.kept if split == "test"}
    answers = [row["messages"][-1]["content"] for _, row in memory.kept]
    assert not any("jane.doe" in answer for answer in answers)
    assert any("[EMAIL]" in answer for answer in answers) == (name == "instruction-default")
    assert len(memory.kept) >= 50


def test_every_pipeline_is_an_order_that_can_be() -> None:
    for name in PIPELINES:
        assert codec.decode_order(order(name), CurationOptions())


def test_own_steps_come_after_those_of_a_pipeline_and_are_numbered_by_themselves() -> None:
    sample = pb.CurationStep(step="sample")
    sample.params.update({"rows": 0})
    with pytest.raises(Invalid) as raised:
        codec.decode_order(order("documents", sample), CurationOptions())
    assert [field for field, _ in raised.value.violations] == ["steps[0].params.rows"]
    sample.params.update({"rows": 5})
    steps = codec.decode_order(order("documents", sample), CurationOptions())
    assert [name for name, _ in steps] == [*(name for name, _ in PIPELINES["documents"]), "sample"]


@pytest.mark.parametrize(("pipeline", "field"), [("lenient", "pipeline"), ("", "steps")])
def test_an_order_without_steps_is_refused(pipeline: str, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        codec.decode_order(order(pipeline), CurationOptions())
    assert field in [name for name, _ in raised.value.violations]
