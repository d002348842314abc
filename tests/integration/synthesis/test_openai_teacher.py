"""The teacher's adapter and the whole engine against a real HTTP server with real faults."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response

from anneal.synthesis.adapters.backoff import Backoff
from anneal.synthesis.adapters.file_journal import FileJournal
from anneal.synthesis.adapters.openai_teacher import OpenAITeacher
from anneal.synthesis.domain.engine import Checks, Classroom, synthesize
from anneal.synthesis.domain.generators.backtranslate import Backtranslate
from anneal.synthesis.domain.ledger import Ledger
from anneal.synthesis.domain.novelty import NoveltyIndex
from anneal.synthesis.domain.rows import Draft, Message, Outcome, digest
from anneal.synthesis.domain.teacher import (
    Call,
    CallRefused,
    Question,
    Sampling,
    TeacherBusy,
    TeacherLost,
    TeacherRefused,
)
from tests.fixtures.openai_server import Answer, OpenAIServer, completion, failure, openai_server

EXTRACT = "demo.f{n}() Return thing number {n}. It is always {n}."
SAMPLING = Sampling(temperature=0.5, max_tokens=64, seed=3)


def page(number: int) -> dict[str, Any]:
    text = EXTRACT.format(n=number)
    return {"id": f"doc-{number}", "text": text, "title": "demo", "uri": f"p{number}", "meta": "{}"}


def call(base: dict[str, Any] | None = None) -> Call:
    generator = Backtranslate.model_validate({"over": "documents", "min_extract_characters": 1, "pairs": 1})
    (question,) = generator.propose([base or page(1)])
    assert isinstance(question, Question)
    return Call(model="teacher-1", sampling=SAMPLING, question=question)


def good(body: dict[str, Any], _: int) -> Response:
    """One pair about the number in the prompt."""
    number = body["messages"][-1]["content"].split("thing number ")[1].split(".")[0]
    pair = {"instruction": f"What does f{number} return?", "answer": f"Return thing number {number}."}
    return completion(json.dumps({"pairs": [pair]}))


async def ask(answer: Answer, *, timeout_s: float = 5.0) -> tuple[Any, OpenAIServer]:
    with openai_server(answer) as server:
        async with OpenAITeacher(server.base_url, api_key="k-1", timeout_s=timeout_s) as teacher:
            return await teacher.complete(call()), server


async def test_a_call_carries_model_sampling_schema_and_key() -> None:
    reply, server = await ask(good)
    (sent,) = server.requests
    assert sent["model"] == "teacher-1"
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.5, 64, call().seed)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["response_format"]["type"] == "json_schema"
    schema = json.dumps(sent["response_format"]["json_schema"]["schema"])
    assert '"maxItems": 1' in schema
    assert "Length" not in schema
    assert "pattern" not in schema
    assert server.keys == ["Bearer k-1"]
    assert (reply.model, reply.finish_reason, reply.tokens) == ("teacher-as-served", "stop", 60)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, TeacherBusy),
        (503, TeacherBusy),
        (500, TeacherLost),
        (502, TeacherLost),
        (408, TeacherLost),
        (400, CallRefused),
        (413, CallRefused),
        (422, CallRefused),
        (401, TeacherRefused),
        (403, TeacherRefused),
        (404, TeacherRefused),
    ],
)
async def test_each_status_has_its_meaning(status: int, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=str(status)):
        await ask(lambda *_: failure(status))


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
async def test_a_busy_teacher_says_when_to_come_back(header: str, seconds: float | None) -> None:
    with pytest.raises(TeacherBusy) as caught:
        await ask(lambda *_: failure(429, **{"Retry-After": header}))
    assert caught.value.retry_after_s == seconds


async def test_a_timeout_may_have_cost_something() -> None:
    with pytest.raises(TeacherLost, match="Timeout"):
        await ask(lambda *_: 2.0, timeout_s=0.2)


async def test_nobody_at_the_door_costs_nothing() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with OpenAITeacher(f"http://127.0.0.1:{port}/v1", timeout_s=2) as teacher:
        with pytest.raises(TeacherBusy):
            await teacher.complete(call())


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [1]}', b"{"]
)
async def test_nonsense_with_a_good_status_is_no_answer(body: bytes) -> None:
    with pytest.raises(TeacherLost):
        await ask(lambda *_: Response(body, media_type="application/json"))


async def test_an_answer_without_content_or_usage_is_unknown_and_not_zero() -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": None}]}
    reply, _ = await ask(lambda *_: Response(json.dumps(body), media_type="application/json"))
    assert (reply.text, reply.tokens, reply.model) == ("", None, "teacher-1")


async def synthesise(
    server: OpenAIServer, journal: Path, *, number: int, budget: int = 100_000, stop_after: int | None = None
) -> tuple[list[Outcome], Ledger]:
    """Run the engine over so many pages; `stop_after` leaves in the middle, as a kill would."""
    generator = Backtranslate.model_validate({"over": "documents", "min_extract_characters": 1, "pairs": 1})
    checks = Checks(
        novelty=NoveltyIndex(max_overlap=1.0, ngram=5),
        min_grounding=0.6,
        identify=lambda draft: digest([message.content for message in draft.messages]),
    )
    written = FileJournal(journal)
    ledger = Ledger(budget, written)
    found: list[Outcome] = []
    async with OpenAITeacher(server.base_url, timeout_s=1.0) as teacher:
        room = Classroom(
            teacher=teacher,
            model="teacher-1",
            sampling=SAMPLING,
            ledger=ledger,
            attempts=Backoff(most=4, first_s=0.01),
            concurrency=4,
            overhead_tokens=64,
        )
        outcomes: AsyncIterator[Outcome] = synthesize(generator, map(page, range(number)), checks, room)
        async for outcome in outcomes:
            found.append(outcome)
            if len(found) == stop_after:
                break
        await outcomes.aclose()  # type: ignore[attr-defined]
    written.close()
    return found, ledger


async def test_rows_come_through_every_fault(tmp_path: Path) -> None:
    def faulty(body: dict[str, Any], same: int) -> Response | float:
        kind = int(body["messages"][-1]["content"].split("thing number ")[1].split(".")[0]) % 5
        faults: list[Response | float] = [
            good(body, 1),
            failure(429, **{"Retry-After": "0.01"}),
            failure(500),
            3.0,
            Response(b"nonsense", media_type="application/json"),
        ]
        return faults[kind] if same == 1 else good(body, same)

    with openai_server(faulty) as server:
        found, ledger = await synthesise(server, tmp_path / "calls.jsonl", number=10)
    assert [one.source for one in found if isinstance(one, Draft)] == [f"p{n}" for n in range(10)]
    assert len(server.requests) == 18
    spending = ledger.spending
    assert (spending.calls, spending.failed_attempts) == (10, 8)
    assert spending.spent_tokens == 10 * 60 + spending.assumed_tokens
    assert spending.assumed_tokens > 0


async def test_a_killed_run_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    journal = tmp_path / "calls.jsonl"
    with openai_server(good) as server:
        first, _ = await synthesise(server, journal, number=12, stop_after=5)
        with journal.open("ab") as file:
            file.write(b'{"event":"ended","num')
        before = len(server.requests)
        settled = sum(json.loads(line).get("reply") is not None for line in journal.read_text().splitlines()[:-1])
        second, ledger = await synthesise(server, journal, number=12)
    assert len(first) == 5
    assert settled >= 5
    assert len(server.requests) - before == 12 - settled
    assert len(second) == 12
    assert second[:5] == first
    assert ledger.spending.reused == settled


async def test_the_server_never_hands_out_more_tokens_than_ordered(tmp_path: Path) -> None:
    with openai_server(good) as server:
        found, ledger = await synthesise(server, tmp_path / "calls.jsonl", number=40, budget=2_000)
        again, after = await synthesise(server, tmp_path / "calls.jsonl", number=40, budget=2_000)
    handed_out = 60 * len(server.requests)
    assert 0 < handed_out <= 2_000
    assert ledger.spending.spent_tokens == handed_out
    assert ledger.spending.not_asked == 40 - len(found)
    assert len(again) >= len(found)
    assert after.spending.spent_tokens <= 2_000


async def test_messages_may_hold_anything(tmp_path: Path) -> None:
    question = Question(
        messages=(Message("user", 'quote " slash \\ \x07 \u2028 \U0001f600'),),
        schema={"type": "object"},
        passage=call().question.passage,
        extract="",
    )
    odd = Call(model="m", sampling=SAMPLING, question=question)
    with openai_server(lambda *_: completion("{}")) as server:
        async with OpenAITeacher(server.base_url) as teacher:
            await teacher.complete(odd)
    assert server.requests[0]["messages"][0]["content"] == question.messages[0].content
