"""The three tasks of the example over the documentation that ships with it."""

from __future__ import annotations

import asyncio
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from anneal.ingestion.adapters.parsers.html import parse
from anneal.kit.records import document
from anneal.synthesis.adapters.dataset_sink import encode_row, row_id
from anneal.synthesis.domain.engine import Checks, synthesize
from anneal.synthesis.domain.generators.template import Template
from anneal.synthesis.domain.novelty import NoveltyIndex
from anneal.synthesis.domain.rows import Draft, Malformed, Outcome

EXAMPLE = Path(__file__).parents[3] / "examples" / "python-docs"
GIVEAWAYS = re.compile(r"^(class|exception|classmethod|abstractmethod|staticmethod|static|coroutine|awaitable|async)\s")
KINDS = {"function", "class", "method", "exception", "data", "attribute"}


@pytest.fixture(scope="module")
def pages() -> list[dict[str, Any]]:
    """Every page of the archive as a row of a documents dataset."""
    found = []
    with tarfile.open(EXAMPLE / "python-3.11-docs.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".html"):
                page = parse(file.read(), member.name)
                meta = {
                    "sections": [section.to_dict() for section in page.sections],
                    "spans": [span.to_dict() for span in page.spans],
                }
                found.append(document(page.text, uri=member.name, title=page.title, meta=meta))
    return found


async def make(rows: list[dict[str, Any]]) -> list[Outcome]:
    generator = Template.model_validate(yaml.safe_load((EXAMPLE / "tasks.yaml").read_text()))
    checks = Checks(novelty=NoveltyIndex(max_overlap=1.0, ngram=5), min_grounding=0.0, identify=row_id)
    return [outcome async for outcome in synthesize(generator, rows, checks)]


@pytest.fixture(scope="module")
def outcomes(pages: list[dict[str, Any]]) -> list[Outcome]:
    return asyncio.run(make(pages))


@pytest.fixture(scope="module")
def tasks(outcomes: list[Outcome]) -> dict[str, list[Draft]]:
    found: dict[str, list[Draft]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Draft):
            found.setdefault(outcome.origin["task"], []).append(outcome)
    return found


def question(row: Draft) -> str:
    return row.messages[-2].content


def test_each_task_has_a_thousand_rows_of_many_pages(tasks: dict[str, list[Draft]]) -> None:
    assert set(tasks) == {"summary", "kind", "params"}
    for name, rows in tasks.items():
        assert len(rows) >= 1_000, name
        assert len({row.source for row in rows}) >= 150, name
        assert len({encode_row(row)["id"] for row in rows}) == len(rows), name


def test_no_page_is_broken_and_no_template_fails(outcomes: list[Outcome]) -> None:
    assert [outcome for outcome in outcomes if isinstance(outcome, Malformed)] == []


def test_prompts_are_short(tasks: dict[str, list[Draft]]) -> None:
    for rows in tasks.values():
        lengths = [len(question(row)) for row in rows]
        # About 3.5 characters a token: 200 tokens on average, and room for the answer in a context of 512.
        assert sum(lengths) / len(lengths) <= 700
        assert max(len(question(row)) + len(row.answer) for row in rows) <= 1_200


def test_a_summary_stands_in_its_entry_and_something_follows_it(tasks: dict[str, list[Draft]]) -> None:
    for row in tasks["summary"]:
        assert row.answer in question(row)
        assert not question(row).endswith(row.answer)
        assert row.answer.rstrip("\"'\u201d)]`")[-1] in ".!?"


def test_a_kind_is_the_markups_word_and_nothing_gives_it_away(tasks: dict[str, list[Draft]]) -> None:
    for row in tasks["kind"]:
        shown = re.sub(r"^(Kind of object:|What is this\?) ", "", question(row))
        assert not GIVEAWAYS.match(shown), shown
        signature = shown.split("(")[0].split(" ")[0]
        assert not re.search(rf"(?<!\w){row.answer}(?!\w)", signature), shown


def test_kinds_are_balanced(tasks: dict[str, list[Draft]]) -> None:
    counts = Counter(row.answer for row in tasks["kind"])
    assert set(counts) == KINDS
    assert max(counts.values()) <= 1.2 * min(counts.values())


def test_every_parameter_stands_in_its_entry(tasks: dict[str, list[Draft]]) -> None:
    for row in tasks["params"]:
        names = json.loads(row.answer)
        assert 1 <= len(names) <= 6
        for name in names:
            assert name in question(row)
            assert re.fullmatch(r"\*{0,2}[A-Za-z_]\w*", name)


def test_the_same_pages_make_the_same_rows_in_any_order(pages: list[dict[str, Any]]) -> None:
    forwards, backwards = asyncio.run(make(pages[:40])), asyncio.run(make(pages[39::-1]))
    kept = [{row_id(one) for one in found if isinstance(one, Draft)} for found in (forwards, backwards)]
    assert kept[0] == kept[1]
