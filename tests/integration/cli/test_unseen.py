"""Unseen questions are put to the base model and to the deployment, and counted by the metric."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from anneal.cli.loop.recipe import Task
from anneal.cli.loop.unseen import compare
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1.deployment_pb2 import Deployment
from anneal.v1.model_pb2 import Model

DEPLOYMENT = Deployment(name="projects/p/deployments/order", base_model="projects/p/models/m")
BASE = Model(name="projects/p/models/m", digest="sha256:" + "0" * 64)


def _json(number: object) -> str:
    """An object as the adapter writes it, with a space that the reference has not."""
    return f'{{"n":  {number}}}'


class Inference:
    """The adapter writes the question's number as JSON, the base a sentence."""

    def Chat(self, request: inference.ChatRequest) -> inference.GenerateResponse:
        (message,) = request.messages
        assert request.sampling.temperature == 0.0
        assert request.sampling.max_tokens == 9
        if request.target.deployment:
            return inference.GenerateResponse(text=_json(message.content.rpartition(" ")[2]))
        assert request.target.base_model_digest == BASE.digest
        return inference.GenerateResponse(text="I do not know.")


class Registry:
    """A test split of rows, of which the last one's reference is another number."""

    def ReadRows(self, request: registry.ReadRowsRequest) -> registry.ReadRowsResponse:
        assert request.split == "test"
        rows = registry.ReadRowsResponse()
        for n in range(request.page_size):
            answer = json.dumps({"n": n if n < request.page_size - 1 else -1})
            messages = [{"role": "user", "content": f"number {n}"}, {"role": "assistant", "content": answer}]
            rows.rows.add(json=json.dumps({"id": f"r{n}", "messages": messages}))
        return rows


def client() -> Any:
    return SimpleNamespace(registry=Registry(), inference=lambda base: Inference())


def task(*metrics: str) -> Task:
    return Task(
        name="order", template={}, metrics=list(metrics), max_tokens=9, answer_format="json", policy=[{"metric": "x"}]
    )


def test_answers_stay_with_their_questions_and_are_judged_as_json() -> None:
    found = compare(client(), task("exact_match"), DEPLOYMENT, BASE, "projects/p/datasets/d/versions/v", 7)
    assert found is not None
    assert (found.adapter_right, found.base_right, len(found.rows)) == (6, 0, 7)
    assert [row.question for row in found.rows] == [f"number {n}" for n in range(7)]
    assert [row.adapter for row in found.rows] == [_json(n) for n in range(7)]
    assert [row.adapter_right for row in found.rows] == [True] * 6 + [False]
    assert {row.base for row in found.rows} == {"I do not know."}


def test_a_task_without_a_metric_that_says_yes_or_no_is_not_counted() -> None:
    assert compare(client(), task("perplexity"), DEPLOYMENT, BASE, "projects/p/datasets/d/versions/v", 3) is None
