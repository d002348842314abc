"""Every question of a task's test set, put to the base model and to the deployed adapter, and scored."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anneal.cli.client import Client
from anneal.cli.loop.ask import questions
from anneal.cli.loop.recipe import Task
from anneal.cli.report import model
from anneal.evaluation.domain.metrics import METRICS
from anneal.evaluation.domain.samples import Sample
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1.deployment_pb2 import Deployment
from anneal.v1.model_pb2 import Model

RIGHT_AT = 1.0
"""Score from which an answer is right: the whole score of a metric that says yes or no."""
IN_FLIGHT = 20
JUDGED_BY = "exact_match"


def compare(
    client: Client, task: Task, deployment: Deployment, base: Model, dataset_version: str, most: int
) -> model.Comparison | None:
    """Ask both what the test set asks, several at once; None where the task has no metric that says yes or no.

    Args:
        client: of the running system.
        task: the task.
        deployment: of its adapter.
        base: the base model.
        dataset_version: whose split `test` is asked.
        most: most questions that are asked.
    """
    if JUDGED_BY not in task.metrics:
        return None
    rows = questions(client, dataset_version, "test", most)
    targets = (
        inference.InferenceTarget(base_model_digest=base.digest),
        inference.InferenceTarget(deployment=deployment.name),
    )
    stub = client.inference(deployment.base_model)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        asked = [[pool.submit(_ask, stub, target, row, task.max_tokens) for target in targets] for row in rows]
        answers = [[future.result() for future in pair] for pair in asked]
    return model.Comparison(
        task=task.name,
        deployment=deployment.name,
        base_model=base.name,
        metric=JUDGED_BY,
        rows=[_row(row, pair, task) for row, pair in zip(rows, answers, strict=True)],
    )


def _ask(stub: Any, target: inference.InferenceTarget, row: dict[str, Any], max_tokens: int) -> str:
    request = inference.ChatRequest(
        target=target,
        messages=list(_messages(row)),
        sampling=inference.SamplingParams(temperature=0.0, max_tokens=max_tokens),
    )
    return str(stub.Chat(request).text)


def _messages(row: dict[str, Any]) -> Iterator[inference.ChatMessage]:
    for message in row["messages"][:-1]:
        yield inference.ChatMessage(role=message["role"], content=message["content"])


def _row(row: dict[str, Any], answers: list[str], task: Task) -> model.ComparedAnswer:
    *asked, reference = row["messages"]
    base_right, adapter_right = (_is_right(row["id"], reference["content"], answer, task) for answer in answers)
    return model.ComparedAnswer(
        question="\n\n".join(message["content"] for message in asked),
        reference=reference["content"],
        base=answers[0],
        adapter=answers[1],
        base_right=base_right,
        adapter_right=adapter_right,
    )


def _is_right(row_id: str, reference: str, answer: str, task: Task) -> bool | None:
    answer_format: Any = task.answer_format
    sample = Sample(id=row_id, reference=reference, answer=answer, answer_format=answer_format)
    score = METRICS[JUDGED_BY].score(sample)
    return None if score is None else score.value >= RIGHT_AT
