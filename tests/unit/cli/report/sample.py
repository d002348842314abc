"""A report with believable made-up numbers (seeded), to look at the page and to test its parts."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from hashlib import sha256
from math import exp
from typing import Literal

from anneal.cli.report import model as m

TASKS = ("summarize", "classify", "parameters")
METRICS = ("exact_match", "token_f1", "rouge_l", "perplexity", "length")
BASE = "base"


def sample_report(seed: int = 7) -> m.Report:
    """A whole run of three tasks."""
    rng = random.Random(seed)
    trainings = [_training(task, rng) for task in TASKS]
    return m.Report(
        title="python-docs: three adapters from Python's own documentation",
        started=datetime(2026, 11, 21, 4, 2, 11, tzinfo=UTC),
        seconds=441.8,
        command="anneal run examples/python-docs/recipe.yaml",
        settings={
            "project": "demo",
            "base_model": "anneal-tiny",
            "train": {"method": "lora", "rank": 16, "learning_rate": 0.001, "epochs": 3},
            "curate": [{"step": "length", "min_chars": 20}, {"step": "fuzzy_duplicates", "threshold": 0.8}],
        },
        environment={"processor": "2 cores, AVX2", "memory": "24 GiB", "python": "3.11.9", "torch": "2.13.0+cpu"},
        steps=_steps(),
        datasets=[_documents(), *(_dataset(task, rng) for task in TASKS)],
        trainings=trainings,
        matrix=_matrix(trainings, rng),
        judgements=[_judgement(training) for training in trainings],
        deployments=_deployments(trainings),
        questions=_questions(),
        comparisons=_comparisons(),
        lineage=_lineage(),
    )


def digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()


def _steps() -> list[m.Step]:
    rows: list[tuple[str, float, str]] = [
        ("start services", 9.1, "8 services, 1 Ray runtime"),
        ("ingest", 21.4, "312 documents, 14.2 MB, 9,841 chunks"),
        ("synthesize", 30.9, "4,117 rows over 3 tasks"),
        ("curate", 17.7, "3,388 rows kept, 729 removed"),
        ("plan", 2.2, "fits in 3.1 GiB, 4 min 10 s in all"),
        *((f"train: {task}", 62.0 + i * 7, "best validation loss at step 240") for i, task in enumerate(TASKS)),
        ("evaluate", 97.3, "4 models x 3 benchmarks"),
        ("deploy", 0.6, "3 deployments, 1 refused as it should be"),
        ("ask", 6.8, "3 questions by 3 ways"),
    ]
    steps = [m.Step(name=name, seconds=seconds, detail=detail) for name, seconds, detail in rows]
    steps[1] = steps[1].model_copy(update={"state": "skipped", "seconds": 0.1})
    return steps


def _documents() -> m.Dataset:
    return m.Dataset(
        label="documents",
        version="projects/demo/datasets/python-docs/versions/0123456789ab",
        digest=digest("docs"),
        kind="document",
        rows_in=318,
        removed=[m.Removal(step="clean", reason="empty", rows=4)],
        quarantined=2,
        splits={"train": 312},
    )


def _dataset(task: str, rng: random.Random) -> m.Dataset:
    removed = [
        m.Removal(step=step, reason=reason, rows=rng.randint(5, 160))
        for step, reason in (
            ("length", "too_short"),
            ("length", "too_long"),
            ("keywords", "forbidden_word"),
            ("format", "not_json"),
            ("exact_duplicates", "duplicate"),
            ("fuzzy_duplicates", "near_duplicate"),
            ("decontaminate", "ngram_overlap"),
        )
    ]
    splits = {"train": rng.randint(900, 1100), "validation": 120, "test": rng.randint(180, 220)}
    return m.Dataset(
        label=task,
        task=task,
        version=f"projects/demo/datasets/{task}/versions/{sha256(task.encode()).hexdigest()[:12]}",
        digest=digest(task),
        kind="conversation",
        rows_in=sum(splits.values()) + sum(r.rows for r in removed),
        removed=removed,
        splits=splits,
        decontaminated_against=list(TASKS),
    )


def _training(task: str, rng: random.Random) -> m.Training:
    floor, start = rng.uniform(0.3, 1.2), rng.uniform(3.0, 3.8)
    losses = []
    for step in range(0, 301, 5):
        value = floor + (start - floor) * exp(-step / 60)
        losses.append(m.LossPoint(step=step, loss=value + rng.gauss(0, 0.06), split="train"))
        if step % 30 == 0:
            bend = max(0, step - 240) * 0.0008
            losses.append(m.LossPoint(step=step, loss=value * 1.08 + 0.05 + bend, split="validation"))
    return m.Training(
        label=task,
        task=task,
        adapter_version=f"projects/demo/adapters/{task}/versions/{sha256(b'a' + task.encode()).hexdigest()[:12]}",
        digest=digest("adapter" + task),
        base_model="projects/demo/models/anneal-tiny",
        dataset_version=f"projects/demo/datasets/{task}/versions/{sha256(task.encode()).hexdigest()[:12]}",
        method="lora",
        settings={"rank": 16, "alpha": 32, "learning_rate": 0.001, "batch_tokens": 4096, "seed": 1},
        losses=losses,
        best_step=240,
        stopped_early=True,
        plan=[
            m.PlanItem(quantity="time", unit="s", planned=71, actual=62 + rng.random() * 9),
            m.PlanItem(quantity="peak memory", unit="GiB", planned=1.4, actual=1.21),
            m.PlanItem(quantity="tokens per epoch", unit="tokens", planned=182_344, actual=182_344),
            m.PlanItem(quantity="truncated rows", unit="rows", planned=3, actual=None),
        ],
        parity=m.Parity(
            passed=True,
            samples=16,
            tokens=1_204,
            token_ids_equal=True,
            max_logprob_difference=1.43e-6,
            tolerance=1e-5,
            dtype="float32",
            engines="peft 0.21.2, vllm 0.32.0",
            base_dtype="bfloat16",
            rms=4.1e-7,
            rms_tolerance=5e-6,
            effect=0.84,
            effect_difference=-1.2e-6,
            effect_tolerance=0.01,
            effect_kept=1.0,
        ),
    )


def _matrix(trainings: list[m.Training], rng: random.Random) -> m.Matrix:
    models = [m.MatrixModel(label=BASE, resource="projects/demo/models/anneal-tiny")]
    models += [
        m.MatrixModel(
            label=t.label,
            resource=t.adapter_version,
            task=t.task,
            evaluation=f"projects/demo/evaluations/{t.label}",
        )
        for t in trainings
    ]
    cells = [_cell(row, task, metric, rng) for row in models for task in TASKS for metric in METRICS]
    return m.Matrix(
        models=models,
        benchmarks=[
            m.MatrixBenchmark(label=task, resource=f"projects/demo/benchmarks/{task}", rows=200) for task in TASKS
        ],
        metrics=list(METRICS),
        cells=cells,
        contamination=[
            m.Contamination(model=row.label, benchmark=task, checked=True, removed_rows=12)
            for row in models[1:]
            for task in TASKS
        ],
    )


def _cell(row: m.MatrixModel, task: str, metric: str, rng: random.Random) -> m.Cell:
    own, base = row.task == task, row.task is None
    if metric == "perplexity":
        value = (2.1 if own else 14.0) + rng.random()
        number = m.Number(value=value, stderr=0.06 * value, low=value * 0.89, high=value * 1.12, scored=200)
        gain = _gain(1.9 if own else -0.02, 0.05)
    elif metric == "length":
        value = (9 if own else 38) + rng.random() * 4
        number = m.Number(value=value, stderr=0.8, low=value - 1.6, high=value + 1.6, scored=200)
        gain = None
    else:
        value = (0.62 if own else 0.05) + rng.random() * 0.1
        number = m.Number(value=value, stderr=0.03, low=value - 0.06, high=value + 0.06, scored=198, unscored=2)
        gain = _gain(0.57 if own else 0.01, 0.03)
    return m.Cell(
        model=row.label,
        benchmark=task,
        metric=metric,
        number=number,
        gain=None if base else gain,
        higher_is_better=metric != "perplexity",
    )


def _gain(value: float, stderr: float) -> m.Number:
    return m.Number(value=value, stderr=stderr, low=value - 2 * stderr, high=value + 2 * stderr, scored=198, unscored=2)


def _judgement(training: m.Training) -> m.Judgement:
    verdict: Literal["GO"] = "GO"
    return m.Judgement(
        model=training.label,
        evaluation=f"projects/demo/evaluations/{training.label}",
        verdict=verdict,
        policy_digest=digest("policy"),
        rules=[
            m.RuleResult(
                benchmark=training.task,
                metric="token_f1",
                verdict=verdict,
                explanation="token_f1 gain over the baseline 0.57 [0.51, 0.63] is above 0",
            )
        ],
    )


def _deployments(trainings: list[m.Training]) -> list[m.Deployment]:
    made = [
        m.Deployment(
            name=f"projects/demo/deployments/{t.label}",
            adapter_version=t.adapter_version,
            adapter_digest=t.digest,
            evaluation=f"projects/demo/evaluations/{t.label}",
            policy_digest=digest("policy"),
        )
        for t in trainings
    ]
    refused = made[0].model_copy(
        update={
            "name": "projects/demo/deployments/not-evaluated",
            "evaluation": "",
            "refusal": "GATE_CLOSED: no evaluation of this adapter version says GO under the policy",
        }
    )
    return [*made, refused]


def _comparisons() -> list[m.Comparison]:
    rows = [
        m.ComparedAnswer(
            question="List the parameters as JSON:\n\nshutil.move(src, dst)",
            reference='["src", "dst"]',
            base="The parameters of <b>shutil.move</b> are a source and a destination.",
            adapter='["src", "dst"]',
            base_right=False,
            adapter_right=True,
        ),
        m.ComparedAnswer(
            question="List the parameters as JSON:\n\nos.listdir(path)",
            reference='["path"]',
            base='["path"]',
            adapter='["paths"]',
            base_right=True,
            adapter_right=False,
        ),
    ]
    name = "projects/demo/deployments/parameters"
    return [
        m.Comparison(task="parameters", deployment=name, base_model="b", metric="exact_match", rows=[*rows, rows[0]])
    ]


def _questions() -> list[m.Question]:
    ways = ("gRPC", "OpenAI HTTP", "OpenAI HTTP, streaming")
    asked = {
        "summarize": (
            "Summarize this entry in one line:\n\nThis function is like shutil.copy(), but it also tries to keep the "
            "file's metadata. Note that even the higher-level functions cannot copy all file metadata.",
            "Copy a file together with its metadata.",
            "Copy the file with its metadata.",
        ),
        "classify": ("Which kind of object does this entry describe?\n\nRaised when a name is missing.",)
        + ("exception",) * 2,
        "parameters": (
            "List the parameters as JSON:\n\nshutil.move(src, dst, copy_function=copy2)",
            '["src", "dst", "copy_function"]',
            '["src", "dst", "copy_function"]',
        ),
    }
    return [
        m.Question(
            deployment=f"projects/demo/deployments/{task}",
            task=task,
            question=question,
            reference=reference,
            answers=[
                m.Answer(via=via, text=text, seconds=0.21, first_token_s=0.04 if "streaming" in via else None)
                for via in ways
            ],
        )
        for task, (question, reference, text) in asked.items()
    ]


def _lineage() -> list[m.LineageStep]:
    return [
        m.LineageStep(kind="answer", name="Copy the file with its metadata.", facts={"deployment": "summarize"}),
        m.LineageStep(
            kind="adapter version",
            name="projects/demo/adapters/summarize/versions/5e1a77c90b12",
            facts={"trained on": "projects/demo/datasets/summarize/versions/0011aabbccdd", "rows": "1,012"},
        ),
        m.LineageStep(
            kind="training row",
            name=digest("row"),
            text="user: Summarize this entry in one line: ...\nassistant: Copy a file together with its mode.",
        ),
        m.LineageStep(
            kind="chunk", name=digest("chunk"), facts={"offsets": "1,204 to 2,011"}, text="shutil.copy(src, dst, *, ..."
        ),
        m.LineageStep(kind="document", name="library/shutil.html", facts={"licence": "PSF-2.0", "size": "48 kB"}),
    ]
