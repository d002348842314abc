"""Commands that list, show and connect what the registry holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from anneal.cli.app import Session, app
from anneal.v1 import dataset_pb2, evaluation_pb2
from anneal.v1 import deployment_pb2 as deployment
from anneal.v1 import registry_service_pb2 as registry

Name = Annotated[str, typer.Argument(help="Id, id/versions/v, or full resource name.")]
Limit = Annotated[int, typer.Option(help="Most results.", min=1, max=1000)]

_COLUMNS: dict[str, Sequence[str]] = {
    "datasets": ("name", "kind", "latest_version", "create_time"),
    "models": ("name", "architecture", "parameter_count", "context_length", "license", "has_chat_template", "digest"),
    "adapters": ("name", "latest_version", "create_time"),
    "deployments": ("name", "adapter_version", "evaluation", "update_time"),
    "evaluations": ("name", "target", "verdict", "create_time"),
    "benchmarks": ("name", "dataset_version", "split", "row_count"),
}
_SHORTEN: dict[str, Sequence[str]] = {
    "datasets": ("create_time", "kind", "latest_version"),
    "models": ("digest", "has_chat_template", "license", "architecture", "context_length", "parameter_count"),
    "adapters": ("create_time", "latest_version"),
    "deployments": ("update_time", "evaluation", "adapter_version"),
    "evaluations": ("create_time", "target", "verdict"),
    "benchmarks": ("row_count", "split", "dataset_version"),
}
"""Columns that give way on a narrow terminal, the least telling first; never the name, which is typed again."""


def _group(name: str, singular: str) -> typer.Typer:
    group = typer.Typer(help=f"List and show {name}.", no_args_is_help=True)
    app.add_typer(group, name=name)
    method = singular.title().replace(" ", "")

    @group.command("list", help=f"List the project's {name}, newest first.")
    def list_all(context: typer.Context, limit: Limit = 50) -> None:
        session: Session = context.obj
        client = session.client()
        request = getattr(registry, f"List{method}sRequest")(parent=client.parent, page_size=limit)
        answer = getattr(client.registry, f"List{method}s")(request)
        session.output.messages(getattr(answer, name), _COLUMNS[name], _SHORTEN[name])

    return group


def _show(group: typer.Typer, name: str, get: Callable[[Session, Any, str], Any]) -> None:
    @group.command("show", help=f"Show one of the {name}.")
    def show(context: typer.Context, resource: Name) -> None:
        session: Session = context.obj
        session.output.message(get(session, session.client().registry, resource))


datasets = _group("datasets", "dataset")
models = _group("models", "model")
adapters = _group("adapters", "adapter")
deployments = _group("deployments", "deployment")
evaluations = _group("evaluations", "evaluation")
benchmarks = _group("benchmarks", "benchmark")

_show(
    datasets,
    "datasets",
    lambda s, r, n: r.GetDatasetVersion(registry.GetDatasetVersionRequest(name=s.version("datasets", n))),
)
_show(
    adapters,
    "adapters",
    lambda s, r, n: r.GetAdapterVersion(registry.GetAdapterVersionRequest(name=s.version("adapters", n))),
)
_show(models, "models", lambda s, r, n: r.GetModel(registry.GetModelRequest(name=s.name("models", n))))
_show(
    deployments,
    "deployments",
    lambda s, r, n: r.GetDeployment(registry.GetDeploymentRequest(name=s.name("deployments", n))),
)
_show(
    evaluations,
    "evaluations",
    lambda s, r, n: r.GetEvaluation(registry.GetEvaluationRequest(name=s.name("evaluations", n))),
)
_show(
    benchmarks,
    "benchmarks",
    lambda s, r, n: r.GetBenchmark(registry.GetBenchmarkRequest(name=s.name("benchmarks", n))),
)

_PARTS = {
    "rows": dataset_pb2.DatasetPart.DATASET_PART_ROWS,
    "removed": dataset_pb2.DatasetPart.DATASET_PART_REMOVED,
    "quarantined": dataset_pb2.DatasetPart.DATASET_PART_QUARANTINED,
}


@datasets.command("rows")
def rows(
    context: typer.Context,
    version: Name,
    part: Annotated[str, typer.Option(help="rows, removed or quarantined.")] = "rows",
    split: Annotated[str, typer.Option(help="Only this split.")] = "",
    limit: Limit = 10,
) -> None:
    """Read rows of a dataset version, also the removed and the quarantined ones with their reasons."""
    session: Session = context.obj
    if part not in _PARTS:
        raise typer.BadParameter(f"{part!r} is none of {', '.join(_PARTS)}")
    request = registry.ReadRowsRequest(
        dataset_version=session.version("datasets", version), part=_PARTS[part], split=split, page_size=limit
    )
    found = [json.loads(row.json) for row in session.client().registry.ReadRows(request).rows]
    if session.output.as_json:
        session.output.json(found)
    for row in found:  # elsewhere than on a terminal a row is a line
        indent = 1 if session.output.is_terminal else None
        session.output.line(json.dumps(row, ensure_ascii=False, indent=indent))


@benchmarks.command("create")
def create_benchmark(
    context: typer.Context,
    benchmark: Annotated[str, typer.Argument(help="Id of the new benchmark.")],
    version: Annotated[str, typer.Argument(help="Dataset version that holds the rows.")],
    metric: Annotated[list[str], typer.Option(help="Metric; may be given several times.")],
    split: Annotated[str, typer.Option(help="Split of the rows.")] = "test",
    max_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.", min=1)] = 256,
    answer_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Register a split of a dataset version as a benchmark."""
    session: Session = context.obj
    client = session.client()
    wanted = evaluation_pb2.Benchmark(
        dataset_version=session.version("datasets", version),
        split=split,
        metrics=metric,
        max_tokens=max_tokens,
        answer_format=answer_format,
    )
    request = registry.CreateBenchmarkRequest(parent=client.parent, benchmark_id=benchmark, benchmark=wanted)
    session.output.message(client.registry.CreateBenchmark(request))


@app.command()
def deploy(
    context: typer.Context,
    deployment_id: Annotated[str, typer.Argument(help="Id that apps will send as `model`.")],
    adapter_version: Annotated[str, typer.Argument(help="Adapter id, or version.")],
    evaluation: Annotated[str, typer.Option(help="Evaluation whose policy the deployment takes over.")],
    canary: Annotated[str, typer.Option(help="Second adapter version to try.")] = "",
    percent: Annotated[int, typer.Option(help="Share of requests for the canary.", min=1, max=99)] = 10,
) -> None:
    """Point a deployment at an adapter version; the gate wants its GO for the policy."""
    session: Session = context.obj
    client = session.client()
    judged = client.registry.GetEvaluation(registry.GetEvaluationRequest(name=session.name("evaluations", evaluation)))
    version = session.version("adapters", adapter_version)
    adapter = client.registry.GetAdapterVersion(registry.GetAdapterVersionRequest(name=version))
    wanted = deployment.Deployment(adapter_version=adapter.name, policy=judged.policy)
    if canary:
        second = registry.GetAdapterVersionRequest(name=session.version("adapters", canary))
        wanted.canary.adapter_version = client.registry.GetAdapterVersion(second).name
        wanted.canary.percent = percent
    name = session.name("deployments", deployment_id)
    known = [
        d for d in client.pages(client.registry.ListDeployments, _all(client.parent), "deployments") if d.name == name
    ]
    if known:
        wanted.name, wanted.etag = name, known[0].etag
        update = registry.UpdateDeploymentRequest(deployment=wanted)
        update.update_mask.paths.extend(["adapter_version", "policy", "canary"])
        session.output.message(client.registry.UpdateDeployment(update))
    else:
        create = registry.CreateDeploymentRequest(parent=client.parent, deployment_id=deployment_id, deployment=wanted)
        session.output.message(client.registry.CreateDeployment(create))


def _all(parent: str) -> registry.ListDeploymentsRequest:
    return registry.ListDeploymentsRequest(parent=parent, page_size=1000)


@app.command()
def lineage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Full resource name, or the id of a row.")],
    down: Annotated[
        bool, typer.Option("--down", help="What was made from it, instead of what it was made from.")
    ] = False,
) -> None:
    """Follow lineage: from an adapter to its datasets, from a row to every adapter that saw it."""
    session: Session = context.obj
    client = session.client()
    if not name.startswith("projects/"):
        found = client.registry.LookupRow(registry.LookupRowRequest(parent=client.parent, row_id=name))
        columns = ("dataset_version", "part", "adapter_versions")
        session.output.messages(found.places, columns, shorten=("part", "adapter_versions"))
        return
    way = registry.LineageDirection
    direction = way.LINEAGE_DIRECTION_DOWNSTREAM if down else way.LINEAGE_DIRECTION_UPSTREAM
    graph = client.registry.GetLineage(registry.GetLineageRequest(name=name, direction=direction))
    session.output.messages(graph.edges, ("to", "relation", "from"), shorten=("relation",))
