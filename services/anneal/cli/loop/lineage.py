"""From one answer back to the documents: which adapter gave it, which rows it learnt from, where those came from."""

from __future__ import annotations

import json
from typing import Any

from anneal.cli.client import Client
from anneal.cli.report import model
from anneal.kit.messages import said
from anneal.v1 import adapter_pb2, dataset_pb2, deployment_pb2
from anneal.v1 import registry_service_pb2 as registry

PASSAGE = 700


def trace(
    client: Client, question: model.Question, deployment: deployment_pb2.Deployment, adapter: adapter_pb2.AdapterVersion
) -> list[model.LineageStep]:
    """The hops from an answer to a document, the answer first."""
    steps = [
        model.LineageStep(
            kind="answer",
            name=question.deployment,
            text=question.answers[0].text if question.answers else "",
            facts={"question": question.question[:200]},
        ),
        model.LineageStep(
            kind="deployment",
            name=deployment.name,
            facts={"admitted by": deployment.evaluation, "policy": deployment.policy_digest},
        ),
        model.LineageStep(
            kind="adapter version",
            name=adapter.name,
            facts={
                "digest": adapter.digest,
                "base": adapter.base_model_digest,
                "operation": adapter.operation,
                "tokens trained": f"{adapter.token_count:,}",
            },
        ),
    ]
    version = adapter.dataset_versions[0]
    for edge in _upstream(client, version):
        steps.append(model.LineageStep(kind="dataset version", name=edge))
    row = _nearest_row(client, version, question.question)
    if row is None:
        return steps
    origin = json.loads(row["origin"] or "{}")
    steps.append(
        model.LineageStep(
            kind="training row",
            name=row["id"],
            text="\n".join(f"{m['role']}: {said(m)}" for m in row["messages"]),
            facts={key: str(value) for key, value in origin.items() if isinstance(value, str | int | float)},
        )
    )
    for parent in row["parents"]:
        steps.extend(_document(client, parent, origin))
    return steps


def _upstream(client: Client, version: str) -> list[str]:
    """A dataset version and everything it was derived from, nearest first."""
    request = registry.GetLineageRequest(name=version, direction=registry.LineageDirection.LINEAGE_DIRECTION_UPSTREAM)
    found = [version]
    for edge in client.registry.GetLineage(request).edges:
        if edge.relation == "derived_from" and getattr(edge, "from") not in found:
            found.append(getattr(edge, "from"))
    return found


def _nearest_row(client: Client, version: str, question: str) -> dict[str, Any] | None:
    """Of the first page of training rows, the one that shares the most words with the question."""
    request = registry.ReadRowsRequest(
        dataset_version=version, part=dataset_pb2.DatasetPart.DATASET_PART_ROWS, split="train", page_size=500
    )
    rows = [json.loads(row.json) for row in client.registry.ReadRows(request).rows]
    asked = set(question.lower().split())

    def shared(row: dict[str, Any]) -> float:
        words = set(said(row["messages"][0]).lower().split())
        return len(words & asked) / max(1, len(words | asked))

    return max(rows, key=shared, default=None)


def _document(client: Client, row_id: str, origin: dict[str, Any]) -> list[model.LineageStep]:
    """The document a row was made from, with the passage."""
    answer = client.registry.LookupRow(registry.LookupRowRequest(parent=client.parent, row_id=row_id))
    for place in answer.places:
        row = json.loads(place.row.json)
        if "text" not in row:
            continue
        start = int(origin.get("start", 0) or 0)
        end = int(origin.get("end", 0) or 0) or start + PASSAGE
        return [
            model.LineageStep(
                kind="document",
                name=row["uri"],
                text=row["text"][start : min(end, start + PASSAGE)],
                facts={
                    "title": row["title"],
                    "licence": row["license"],
                    "dataset": place.dataset_version,
                    "characters": f"{start}-{end}",
                },
            )
        ]
    return []
