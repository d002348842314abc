"""The body of the evaluation job: ask, score, compare, judge."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from anneal.evaluation import codec
from anneal.evaluation.adapters import row_file
from anneal.evaluation.adapters.answer_log import AnswerLog
from anneal.evaluation.adapters.registry import Registry
from anneal.evaluation.adapters.row_file import ScoredRow, Side
from anneal.evaluation.adapters.serving import Serving
from anneal.evaluation.adapters.stored_answers import StoredAnswers
from anneal.evaluation.domain import scoring
from anneal.evaluation.domain.answers import Answer, sample
from anneal.evaluation.domain.plan import Target, Task
from anneal.evaluation.domain.policy import Cell, judge
from anneal.evaluation.domain.questions import Question, questions
from anneal.evaluation.planning import Plan, plan
from anneal.kit.datasets import DatasetReader
from anneal.kit.digests import digest_of
from anneal.kit.errors import Invalid
from anneal.kit.jobs.context import Cancelled, JobContext
from anneal.kit.policies import policy_digest
from anneal.kit.rpc.waiting import ServiceUnavailable
from anneal.kit.store import Store
from anneal.v1 import evaluation_pb2
from anneal.v1 import evaluation_service_pb2 as pb

CANCEL_POLL_S = 0.2
COLUMNS = ("id", "messages", "tools", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One question to one target."""

    side: Side
    target: Target
    task: Task
    question: Question

    @property
    def key(self) -> str:
        """What the answer depends on, so that an answer kept is never taken for another one's."""
        return digest_of(
            {
                "base": self.target.base_digest,
                "adapter": self.target.adapter_digest,
                "dataset": self.task.dataset_digest,
                "split": self.task.split,
                "max_tokens": self.task.max_tokens,
                "needs": scoring.needs(self.task.metrics),
                "row": self.question.id,
            }
        )


def evaluate(ctx: JobContext, request: pb.EvaluateModelRequest) -> evaluation_pb2.Evaluation:
    """Evaluate a model or an adapter; killed and started again it goes on where it was."""
    return asyncio.run(_evaluate(ctx, request))


async def _evaluate(ctx: JobContext, request: pb.EvaluateModelRequest) -> evaluation_pb2.Evaluation:
    async with ctx.aio_channel("registry") as registry_channel:
        registry = Registry(registry_channel)
        the_plan = await plan(registry, _as_first_understood(ctx, request))
        _remember(ctx, the_plan)
        orders = [*_orders(ctx.store, the_plan, request.max_rows)]
        wait = ctx.wait("serving", float(ctx.options["serving_deadline_s"]))
        async with ctx.aio_channel("serving", the_plan.target.base_name, wait_s=0) as serving_channel:
            serving = Serving(serving_channel, deadline_s=float(ctx.options["answer_deadline_s"]), wait=wait)
            stored = StoredAnswers(ctx.store, ctx.project, digest_of(sorted(order.key for order in orders)))
            with AnswerLog(ctx.scratch / "answers.jsonl") as log:
                if taken := log.take_in(stored.read()):
                    ctx.log(f"{taken} answers are used that an evaluation which did not end has got")
                try:
                    answers = await _ask(ctx, serving, orders, log, concurrency=int(ctx.options["concurrency"]))
                except (ServiceUnavailable, Cancelled):
                    if len(log):
                        stored.write(log.lines)
                    raise
        contamination = await _contamination(registry, the_plan)
    rows = _score(orders, answers)
    evaluation = _conclude(ctx.store, the_plan, request, rows)
    evaluation.contamination.extend(contamination)
    stored.delete()
    ctx.log(f"{evaluation.name}: {evaluation_pb2.Verdict.Name(evaluation.verdict)}, {len(rows)} rows")
    return evaluation


def _as_first_understood(ctx: JobContext, request: pb.EvaluateModelRequest) -> pb.EvaluateModelRequest:
    """The order with the target an earlier attempt found: `latest` may mean something else by now."""
    path = ctx.scratch / "target"
    if not path.exists():
        return request
    known = pb.EvaluateModelRequest()
    known.CopyFrom(request)
    known.target = path.read_text()
    return known


def _remember(ctx: JobContext, the_plan: Plan) -> None:
    partial = ctx.scratch / "target.partial"
    partial.write_text(the_plan.target.name)
    partial.replace(ctx.scratch / "target")


def _orders(store: Store, the_plan: Plan, max_rows: int) -> Iterator[Order]:
    """Every question to every target, task by task."""
    for index, task in enumerate(the_plan.tasks):
        reader = DatasetReader(store, task.dataset_digest)
        if reader.manifest.kind != "conversation":
            raise Invalid.field(f"benchmarks[{index}]", f"{task.benchmark} holds {reader.manifest.kind} rows")
        asked = questions(reader.table(task.split, columns=COLUMNS).to_pylist(), max_rows)
        for question in asked:
            yield Order(side="target", target=the_plan.target, task=task, question=question)
        if the_plan.base is not None:
            for question in asked:
                yield Order(side="baseline", target=the_plan.base, task=task, question=question)


async def _ask(
    ctx: JobContext, serving: Serving, orders: Sequence[Order], log: AnswerLog, *, concurrency: int
) -> list[Answer]:
    """The answers in the order of the orders; those in the log are not asked again."""
    left = [order for order in orders if log.get(order.key) is None]
    waiting, done = iter(left), len(orders) - len(left)
    ctx.progress(done, len(orders), "answers", "asking" if done == 0 else f"asking; {done} answers were kept")

    async def worker() -> None:
        nonlocal done
        for order in waiting:
            needs_answer, needs_logprobs = scoring.needs(order.task.metrics)
            answer = await serving.answer(
                order.target, order.task, order.question, needs_answer=needs_answer, needs_logprobs=needs_logprobs
            )
            log.add(order.key, answer)
            done += 1
            ctx.count("answers", 1, outcome=answer.cause or "answered")
            ctx.count("tokens", answer.tokens or 0, use="completion")
            ctx.progress(done, len(orders), "answers", "asking")

    await _run([worker() for _ in range(concurrency)], _until_cancelled(ctx))
    return [log.get(order.key) or Answer() for order in orders]


async def _until_cancelled(ctx: JobContext) -> None:
    """Return never; raise when the job is asked to stop, also while every asker waits for an answer."""
    while True:
        ctx.check()
        await asyncio.sleep(CANCEL_POLL_S)


async def _run(workers: Sequence[Coroutine[Any, Any, None]], watcher: Coroutine[Any, Any, None]) -> None:
    """Wait for all workers; when one of them or the watcher raises, stop the rest and raise that."""
    watching = asyncio.create_task(watcher)
    running = {asyncio.create_task(worker) for worker in workers}
    tasks = [watching, *running]
    try:
        while running:
            ended, _ = await asyncio.wait({watching, *running}, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            running -= ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _score(orders: Sequence[Order], answers: Sequence[Answer]) -> list[ScoredRow]:
    """Every row with its score under every metric of its task."""
    rows = []
    for order, answer in zip(orders, answers, strict=True):
        one = sample(order.question, answer, order.task.answer_format)
        scores = {name: by_row[one.id] for name, by_row in scoring.score([one], order.task.metrics).items()}
        rows.append(
            ScoredRow(
                side=order.side,
                benchmark=order.task.benchmark,
                question=order.question,
                answer=answer,
                scores=scores,
            )
        )
    return rows


def _conclude(
    store: Store, the_plan: Plan, request: pb.EvaluateModelRequest, rows: Sequence[ScoredRow]
) -> evaluation_pb2.Evaluation:
    """Numbers, comparison, verdict."""
    rows_digest = row_file.write(store, rows)
    ours = row_file.read_scores(store, rows_digest, "target")
    is_same_base = True
    theirs: row_file.ScoresByBenchmark | None = None
    if the_plan.baseline is not None:
        theirs = row_file.read_scores(store, the_plan.baseline.rows_digest)
        is_same_base = the_plan.baseline.base_model_digest == the_plan.target.base_digest
    elif the_plan.base is not None:
        theirs = row_file.read_scores(store, rows_digest, "baseline")
    evaluation = evaluation_pb2.Evaluation(
        name=the_plan.name,
        target=the_plan.target.name,
        target_digest=the_plan.target.digest,
        base_model_digest=the_plan.target.base_digest,
        baseline=request.baseline,
        rows_digest=rows_digest,
    )
    cells: dict[tuple[str, str], Cell] = {}
    for task in the_plan.tasks:
        mine, other = ours.get(task.benchmark, {}), (theirs or {}).get(task.benchmark, {})
        compared = scoring.comparable(other, is_same_base=is_same_base)
        for metric in task.metrics:
            number = scoring.number(metric, mine.get(metric, {}))
            paired = metric in compared
            gain = scoring.gain(metric, mine.get(metric, {}), other[metric]) if paired else None
            baseline = scoring.number(metric, other[metric]) if paired else None
            cells[task.benchmark, metric] = Cell(estimate=number, gain=gain)
            evaluation.results.append(codec.encode_result(task.benchmark, metric, number, gain, baseline))
    if the_plan.policy is not None:
        verdict, outcomes = codec.encode_judgement(judge(the_plan.policy, cells))
        evaluation.policy.CopyFrom(request.policy)
        evaluation.policy_digest = policy_digest(request.policy)
        evaluation.verdict = verdict
        evaluation.rule_results.extend(outcomes)
    return evaluation


async def _contamination(registry: Registry, the_plan: Plan) -> list[evaluation_pb2.ContaminationCheck]:
    """For every benchmark and every training set of the target: was the one checked against the other?"""
    checks = []
    for name in the_plan.target.dataset_versions:
        version = await registry.dataset_version(name)
        removed = sum(removal.row_count for removal in version.removals if "decontaminat" in removal.step)
        checks += [
            evaluation_pb2.ContaminationCheck(
                benchmark=task.benchmark,
                dataset_version=name,
                decontaminated=task.dataset_digest in version.decontaminated_against,
                removed_row_count=removed,
            )
            for task in the_plan.tasks
        ]
    return checks
