"""The schema of `report.json`: everything a report says, as data.

`Report` is filled while a run goes on and written whole; a run that stopped early leaves the later lists empty, and
the page shows what there is. Unknown is not zero: a number nobody measured is None. Names of metrics, benchmarks,
models and splits are those of the resources; `label` is what people read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Part(BaseModel):
    """Base of all parts: unknown keys are refused, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Step(Part):
    """One step of the run, in the order they ran.

    Attributes:
        name: what it did, such as `ingest` or `train: summarize`.
        seconds: wall-clock time.
        state: how it ended; `skipped` means its inputs had not changed.
        detail: one line for people, such as `312 documents, 14.2 MB`.
        operation: resource name of the operation behind it.
    """

    name: str
    seconds: float
    state: Literal["done", "skipped", "failed"] = "done"
    detail: str = ""
    operation: str = ""


class Removal(Part):
    """Rows that left a dataset for one reason in one step."""

    step: str
    reason: str
    rows: int


class Dataset(Part):
    """One dataset version the run made, with the balance of its rows.

    `rows_in` = sum of `splits` + sum of `removed` + `quarantined`.

    Attributes:
        label: what people call it, such as `documents` or `summarize, curated`.
        task: the task it belongs to; None when it belongs to all.
        version: resource name of the version.
        digest: digest of its manifest.
        kind: what its rows are.
        rows_in: rows that came in.
        removed: rows that left, by step and reason, in the order of the steps.
        quarantined: rows that could not be read.
        splits: rows kept, by split.
        decontaminated_against: benchmarks (labels) its training rows were checked against.
    """

    label: str
    version: str
    digest: str
    kind: Literal["document", "conversation", "preference"]
    rows_in: int
    task: str | None = None
    removed: list[Removal] = []
    quarantined: int = 0
    splits: dict[str, int] = {}
    decontaminated_against: list[str] = []

    @property
    def rows_out(self) -> int:
        """Rows kept, over all splits."""
        return sum(self.splits.values())


class LossPoint(Part):
    """A loss in nats per token that is learned, after `step` optimizer steps."""

    step: int
    loss: float
    split: Literal["train", "validation"]


class PlanItem(Part):
    """A quantity of the plan beside what it came to.

    Attributes:
        quantity: what is counted, such as `trained tokens`, `peak memory` or `time`.
        unit: such as `tokens`, `GiB`, `s`, or empty.
        planned: what `PlanTraining` said; None when it said nothing.
        actual: what training measured; None when it did not.
    """

    quantity: str
    unit: str = ""
    planned: float | None = None
    actual: float | None = None


class Parity(Part):
    """The parity certificate of one adapter: serving answers as training did."""

    passed: bool
    samples: int
    tokens: int
    token_ids_equal: bool
    max_logprob_difference: float
    tolerance: float
    dtype: str
    engines: str = ""
    base_dtype: str = ""
    rms: float | None = None
    rms_tolerance: float | None = None
    effect: float | None = None
    effect_difference: float | None = None
    effect_tolerance: float | None = None
    effect_kept: float | None = None


class Training(Part):
    """One adapter, how it was trained, and the plan it was trained by.

    Attributes:
        label: what people call it; the label of its model in the matrix.
        task: the task it was trained for.
        adapter_version: resource name.
        digest: digest of its files.
        base_model: resource name of the base.
        dataset_version: what it was trained on.
        method: key of the METHODS table.
        settings: the settings that matter to a reader, such as rank and learning rate.
        losses: training and validation losses; validation only where it was measured.
        best_step: the step whose weights were kept; None when unknown.
        stopped_early: whether the validation loss ended it.
        plan: plan beside what came of it.
        parity: its certificate.
    """

    label: str
    task: str
    adapter_version: str
    digest: str
    base_model: str
    dataset_version: str
    method: str
    settings: dict[str, JsonValue] = {}
    losses: list[LossPoint] = []
    best_step: int | None = None
    stopped_early: bool | None = None
    plan: list[PlanItem] = []
    parity: Parity | None = None


class Number(Part):
    """A number with its error bar, as `anneal.v1.Estimate` gives it: 95 % confidence interval, counts of rows."""

    value: float | None = None
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    scored: int = 0
    unscored: int = 0


class Cell(Part):
    """One metric of one model on one benchmark.

    Attributes:
        model: label of the model, one of `Matrix.models`.
        benchmark: label of the benchmark, one of `Matrix.benchmarks`.
        metric: key of the METRICS table.
        number: the model's own number.
        gain: the paired gain over the baseline, positive is better (perplexity: nats per token); None for the
            baseline itself.
        higher_is_better: which way the metric improves.
    """

    model: str
    benchmark: str
    metric: str
    number: Number
    gain: Number | None = None
    higher_is_better: bool = True


class MatrixModel(Part):
    """A row of the matrix.

    Attributes:
        label: what people read, such as `base` or `summarize`.
        resource: model or adapter version.
        evaluation: resource name of its evaluation.
        task: label of the benchmark that is its own task; None for the base.
    """

    label: str
    resource: str
    evaluation: str = ""
    task: str | None = None


class MatrixBenchmark(Part):
    """A column of the matrix. `rows` is the size of its test set."""

    label: str
    resource: str
    rows: int


class Contamination(Part):
    """What decontamination says about one model and one benchmark.

    Attributes:
        model: label of the model.
        benchmark: label of the benchmark.
        checked: whether every dataset version it was trained on was decontaminated against this benchmark.
        removed_rows: training rows removed for being too near to any benchmark; None when unknown.
    """

    model: str
    benchmark: str
    checked: bool
    removed_rows: int | None = None


class Matrix(Part):
    """All models on all benchmarks. Lists are in the order shown; the base comes first."""

    models: list[MatrixModel] = []
    benchmarks: list[MatrixBenchmark] = []
    metrics: list[str] = []
    cells: list[Cell] = []
    contamination: list[Contamination] = []


class RuleResult(Part):
    """How one rule of a policy came out."""

    benchmark: str
    metric: str
    verdict: Literal["GO", "NO-GO", "INCONCLUSIVE"]
    explanation: str


class Judgement(Part):
    """The verdict on one model. `model` is its label, `policy_digest` what the gate compares."""

    model: str
    evaluation: str
    verdict: Literal["GO", "NO-GO", "INCONCLUSIVE"]
    policy_digest: str
    rules: list[RuleResult] = []


class Deployment(Part):
    """A deployment the registry made, or one it refused.

    Attributes:
        name: resource name, or the name that was refused.
        adapter_version: who answers.
        adapter_digest: its digest.
        evaluation: the evaluation that opened the gate.
        policy_digest: the policy it had to pass.
        refusal: reason and sentence when the gate stayed closed; empty when it opened.
    """

    name: str
    adapter_version: str
    adapter_digest: str = ""
    evaluation: str = ""
    policy_digest: str = ""
    refusal: str = ""


class Answer(Part):
    """One answer to a question, by one way in.

    Attributes:
        via: such as `gRPC`, `OpenAI HTTP` or `OpenAI HTTP, streaming`.
        text: what came back.
        seconds: until the last token.
        first_token_s: until the first one, where it was streamed.
    """

    via: str
    text: str
    seconds: float | None = None
    first_token_s: float | None = None


class Question(Part):
    """A question a deployment was asked, with its reference and every answer."""

    deployment: str
    task: str
    question: str
    reference: str
    answers: list[Answer] = []


class ComparedAnswer(Part):
    """An unseen question with its reference, and what the base model and the adapter answered.

    Attributes:
        question: as it was asked.
        reference: the answer that is held to be right.
        base: the base model's answer.
        adapter: the adapter's.
        base_right: whether that is right by the metric; None where it cannot say.
        adapter_right: the same of the adapter.
    """

    question: str
    reference: str
    base: str
    adapter: str
    base_right: bool | None = None
    adapter_right: bool | None = None


class Comparison(Part):
    """All unseen questions of a task that were asked. `metric` says what is right."""

    task: str
    deployment: str
    base_model: str
    metric: str
    rows: list[ComparedAnswer] = []

    @property
    def base_right(self) -> int:
        """How many of the base model's answers are right."""
        return sum(bool(row.base_right) for row in self.rows)

    @property
    def adapter_right(self) -> int:
        """How many of the adapter's answers are right."""
        return sum(bool(row.adapter_right) for row in self.rows)


class LineageStep(Part):
    """One hop from an answer back to its documents, the answer first.

    Attributes:
        kind: such as `answer`, `deployment`, `adapter version`, `training row`, `chunk` or `document`.
        name: resource name, row id or uri.
        text: what a reader wants to see of it, such as the row's question or the document's passage; may be long.
        facts: short facts, such as digest or offsets.
    """

    kind: str
    name: str
    text: str = ""
    facts: dict[str, str] = {}


class Report(Part):
    """Everything one run has to show.

    Attributes:
        schema_version: of this document.
        title: heading of the page.
        started: when the run began.
        seconds: how long it took; None while it has not ended.
        outcome: how it ended.
        failure: one line with the reason when it failed.
        command: the command line as a person would type it.
        settings: the recipe and its settings, as nested JSON.
        environment: such as `processor`, `python`, `torch`, `vllm`: name to text.
        steps: what ran, in order.
        datasets: dataset versions, in the order they were made.
        trainings: one per adapter.
        matrix: the evaluation matrix.
        judgements: one per judged model.
        deployments: made and refused.
        questions: asked of the deployments.
        comparisons: unseen questions of each task, answered by the base model and by the adapter.
        lineage: of one answer.
    """

    schema_version: Literal[1] = 1
    title: str
    started: datetime
    seconds: float | None = None
    outcome: Literal["succeeded", "failed", "interrupted"] = "succeeded"
    failure: str = ""
    command: str = ""
    settings: dict[str, JsonValue] = {}
    environment: dict[str, str] = {}
    steps: list[Step] = []
    datasets: list[Dataset] = []
    trainings: list[Training] = []
    matrix: Matrix = Matrix()
    judgements: list[Judgement] = []
    deployments: list[Deployment] = []
    questions: list[Question] = []
    comparisons: list[Comparison] = []
    lineage: list[LineageStep] = []
