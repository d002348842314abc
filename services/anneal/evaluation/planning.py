"""From an order to a plan: every name resolved to its digest, everything that can be refused refused."""

from __future__ import annotations

from dataclasses import dataclass

from anneal.evaluation import codec
from anneal.evaluation.adapters.registry import Registry
from anneal.evaluation.domain.errors import EvaluationExists
from anneal.evaluation.domain.metrics import METRICS
from anneal.evaluation.domain.plan import Target, Task
from anneal.evaluation.domain.policy import Policy
from anneal.evaluation.domain.suites import SUITES
from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.v1 import evaluation_pb2
from anneal.v1 import evaluation_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One evaluation, ready to run.

    Attributes:
        name: resource name of the evaluation to be.
        target: who is evaluated.
        tasks: on what.
        baseline: the finished evaluation to pair with; None without one.
        base: the base model, asked beside the adapter when no baseline was given; None otherwise.
        policy: what to judge by; None without one.
    """

    name: str
    target: Target
    tasks: tuple[Task, ...]
    baseline: evaluation_pb2.Evaluation | None
    base: Target | None
    policy: Policy | None


async def plan(registry: Registry, request: pb.EvaluateModelRequest) -> Plan:
    """Resolve an order.

    Raises:
        Invalid: a field is wrong by itself, or does not fit the others.
        AioRpcError: the registry misses something the order names.
    """
    name = check_order(request)
    policy = codec.decode_policy(request.policy) if request.HasField("policy") else None
    target = await registry.target(request.target)
    tasks = tuple([await registry.task(benchmark, request.suite) for benchmark in request.benchmarks])
    for index, task in enumerate(tasks):
        _check_metrics(task, f"benchmarks[{index}]")
    if policy is not None:
        _check_policy(policy, tasks)
    baseline = await registry.evaluation(request.baseline) if request.baseline else None
    if baseline is not None:
        _check_baseline(baseline, tasks)
    alone = baseline is None and bool(target.adapter_digest)
    return Plan(
        name=name,
        target=target,
        tasks=tasks,
        baseline=baseline,
        base=target.base() if alone else None,
        policy=policy,
    )


def check_order(request: pb.EvaluateModelRequest) -> str:
    """What can be said of an order without asking anybody; returns the name of the evaluation to be.

    Raises:
        Invalid: a name is malformed or of another project, a benchmark comes twice, or there is no such suite.
    """
    names.parse(request.parent, "project", "parent")
    names.check_id(request.evaluation_id, "evaluation_id")
    names.parse_any(request.target, ("model", "adapter_version"), "target")
    mentioned = {"target": request.target}
    for index, benchmark in enumerate(request.benchmarks):
        field = f"benchmarks[{index}]"
        names.parse(benchmark, "benchmark", field)
        if benchmark in request.benchmarks[:index]:
            raise Invalid.field(field, f"{benchmark} is named twice")
        mentioned[field] = benchmark
    if request.baseline:
        names.parse(request.baseline, "evaluation", "baseline")
        mentioned["baseline"] = request.baseline
    for field, name in mentioned.items():
        _check_project(name, request.parent, field)
    if request.suite and request.suite not in SUITES:
        raise Invalid.field("suite", f"{request.suite!r} is none of {', '.join(sorted(SUITES))}")
    if request.max_rows < 0:
        raise Invalid.field("max_rows", f"{request.max_rows} is below zero")
    return f"{request.parent}/evaluations/{request.evaluation_id}"


def check_comparison(request: pb.CompareModelsRequest) -> None:
    """Check the names of a comparison.

    Raises:
        Invalid: one is malformed or of another project.
    """
    names.parse(request.parent, "project", "parent")
    for field, name in (("evaluation", request.evaluation), ("baseline", request.baseline)):
        names.parse(name, "evaluation", field)
        _check_project(name, request.parent, field)


async def check_name_is_free(registry: Registry, name: str) -> None:
    """Check before hours of work what the registry would say after them.

    Raises:
        EvaluationExists: the name is taken.
    """
    if await registry.has_evaluation(name):
        raise EvaluationExists(f"{name} exists", name=name)


def _check_project(name: str, parent: str, field: str) -> None:
    if names.project_of(name) != parent:
        raise Invalid.field(field, f"{name} is not in {parent}")


def _check_metrics(task: Task, field: str) -> None:
    unknown = sorted(set(task.metrics) - set(METRICS))
    if unknown or not task.metrics:
        said = f"asks for {', '.join(unknown)}" if unknown else "names no metric"
        raise Invalid.field(field, f"{task.benchmark} {said}; known are {', '.join(sorted(METRICS))}")


def _check_policy(policy: Policy, tasks: tuple[Task, ...]) -> None:
    measured = {task.benchmark: task.metrics for task in tasks}
    for index, rule in enumerate(policy.rules):
        if rule.benchmark not in measured:
            raise Invalid.field(f"policy.rules[{index}].benchmark", f"{rule.benchmark} is not among the benchmarks")
        if rule.metric not in measured[rule.benchmark]:
            raise Invalid.field(f"policy.rules[{index}].metric", f"{rule.metric} is not measured on {rule.benchmark}")


def _check_baseline(baseline: evaluation_pb2.Evaluation, tasks: tuple[Task, ...]) -> None:
    missing = {task.benchmark for task in tasks} - {result.benchmark for result in baseline.results}
    if missing:
        raise Invalid.field("baseline", f"{baseline.name} has no numbers on {', '.join(sorted(missing))}")
