"""Benchmarks and evaluations."""

from __future__ import annotations

from datetime import datetime

from anneal.kit.digests import hex_of
from anneal.kit.errors import Invalid
from anneal.kit.names import check_id, parse, parse_any
from anneal.kit.policies import policy_digest
from anneal.registry import codec
from anneal.registry.adapters.sql.transactions import Reader, Writer
from anneal.registry.domain.gate import check_policy, check_verdict
from anneal.registry.domain.publishing import check_rows, check_target
from anneal.registry.domain.resources import Kind
from anneal.registry.usecases.house import Draft, House, create, resolve_all
from anneal.v1.dataset_pb2 import DATASET_KIND_PREFERENCE
from anneal.v1.evaluation_pb2 import Benchmark, Evaluation
from anneal.v1.registry_service_pb2 import CreateBenchmarkRequest, CreateEvaluationRequest

ANSWER_FORMATS = ("", "text", "json")


async def create_benchmark(house: House, request: CreateBenchmarkRequest) -> Benchmark:
    """Register a split of a dataset version as a benchmark.

    Raises:
        DatasetVersionMissing: there is no such dataset version.
        BenchmarkEmpty: the split has no rows.
        Invalid: a number or a format that cannot be, or rows that are preferences.
    """
    parse(request.parent, "project", "parent")
    given = request.benchmark
    name = f"{request.parent}/benchmarks/{check_id(request.benchmark_id, 'benchmark_id')}"
    parse(given.dataset_version, "dataset_version", "benchmark.dataset_version")
    if given.max_tokens < 1:
        raise Invalid.field("benchmark.max_tokens", f"{given.max_tokens} is below 1")
    if given.answer_format not in ANSWER_FORMATS:
        raise Invalid.field("benchmark.answer_format", f"{given.answer_format!r} is neither `text` nor `json`")

    async def draft(tx: Writer, now: datetime) -> Draft:
        version = codec.encode(await tx.get(Kind.DATASET_VERSION, given.dataset_version))
        if version.kind == DATASET_KIND_PREFERENCE:
            raise Invalid.field(
                "benchmark.dataset_version",
                f"{version.name} holds preferences, which have no one right answer: a benchmark needs conversations",
            )
        benchmark = Benchmark()
        benchmark.CopyFrom(given)
        benchmark.name = name
        benchmark.dataset_version = version.name
        benchmark.dataset_digest = version.digest
        benchmark.row_count = check_rows(name, given.split, version.split_row_counts.get(given.split, 0))
        return Draft(record=codec.record_of(Kind.BENCHMARK, benchmark, now))

    answer: Benchmark = await create(house, request, draft)
    return answer


async def create_evaluation(house: House, request: CreateEvaluationRequest) -> Evaluation:
    """Keep what an evaluation found. Its verdict must follow from its rules, and its target must be what it judged.

    Raises:
        Missing: the target, the baseline or a benchmark does not exist.
        TargetMismatch: the target has other content than was judged.
        FilesMissing: the answers and scores are not in the store.
        Invalid: the verdict does not follow from the rules, or the policy's digest is another one.
    """
    parse(request.parent, "project", "parent")
    given = request.evaluation
    name = f"{request.parent}/evaluations/{check_id(request.evaluation_id, 'evaluation_id')}"
    digest = check_judgement(given)
    if given.rows_digest:
        hex_of(given.rows_digest, "evaluation.rows_digest")
        await house.shelf.check_files(given.rows_digest, name)

    async def draft(tx: Writer, now: datetime) -> Draft:
        evaluation = Evaluation()
        evaluation.CopyFrom(given)
        evaluation.name = name
        evaluation.policy_digest = digest
        evaluation.target, real = await _target(tx, given.target)
        check_target(evaluation.target, (given.target_digest, given.base_model_digest), real)
        if given.baseline:
            await resolve_all(tx, Kind.EVALUATION, [given.baseline], "evaluation.baseline")
        await resolve_all(tx, Kind.BENCHMARK, codec.benchmarks_of(given), "evaluation.benchmarks")
        return Draft(record=codec.record_of(Kind.EVALUATION, evaluation, now))

    answer: Evaluation = await create(house, request, draft)
    return answer


def check_judgement(given: Evaluation) -> str:
    """The digest of an evaluation's policy, empty without one, when policy, outcomes and verdict fit together.

    Raises:
        Invalid: they do not.
    """
    demands = [codec.demand_of(rule) for rule in given.policy.rules]
    outcomes = [
        (codec.demand_of(result.rule), codec.verdict_of(result.verdict, f"evaluation.rule_results[{index}].verdict"))
        for index, result in enumerate(given.rule_results)
    ]
    if given.HasField("policy"):
        check_policy(demands, given.policy.min_scored_rows, "evaluation.policy")
    check_verdict(demands, outcomes, codec.verdict_of(given.verdict, "evaluation.verdict"), "evaluation")
    digest = policy_digest(given.policy) if given.HasField("policy") else ""
    if given.policy_digest not in ("", digest):
        raise Invalid.field("evaluation.policy_digest", f"is {given.policy_digest}, but the policy's is {digest}")
    return digest


async def _target(tx: Reader, target: str) -> tuple[str, tuple[str, str]]:
    """The name of what was judged, its digest and its base model's."""
    kind, _ = parse_any(target, ["model", "adapter_version"], "evaluation.target")
    record = await tx.get(Kind(kind), target)
    digest = str(record.facts["digest"])
    return record.name, (digest, str(record.facts.get("base_model_digest", digest)))
