"""One worker's whole run: read, check, train, save, compare. Knows neither Ray nor gRPC.

The run folder is shared by all workers and by whoever watches: `checkpoints/`, `events.jsonl`, `artifact/`,
`result.json`; a file named `stop` in it asks the run to stop after the step it is in.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from anneal.kit.chat.errors import ChatError
from anneal.kit.chat.options import FILE
from anneal.kit.messages import plain_row
from anneal.training.adapters.checkpoint_folder import CheckpointFolder, flush
from anneal.training.describing import describe_model
from anneal.training.domain.base_model import BaseModel, ModelShape, open_base_model, stored_dtype
from anneal.training.domain.chat_files import keep_chat_files
from anneal.training.domain.checkpoint import Progress
from anneal.training.domain.checks import check_packing
from anneal.training.domain.expectations import add_logprobs
from anneal.training.domain.loop import Loop, StepDone, Validated
from anneal.training.domain.methods import METHODS, base_dtype
from anneal.training.domain.objectives import OBJECTIVES
from anneal.training.domain.prepare import Prepared, choose_rows, prepare
from anneal.training.domain.samples import Sample, Span
from anneal.training.domain.spec import TrainingSpec
from anneal.training.domain.template import ChatTemplate, open_template
from anneal.training.domain.verify import verify_artifact
from anneal.training.domain.world import World
from anneal.training.measure import peak_memory_bytes
from anneal.training.order import RunOrder

NUM_COMPARED, MAX_COMPARED, COMPARED_TARGETS = 8, 32, 512
"""Samples that the saved files are compared on; serving is compared on so many, and on more until they have so many
target tokens: in bfloat16 rounding averages out over the tokens only."""
NUM_SAMPLES = 4
"""Conversations that are answered after training, for people to read."""
MAX_ANSWER_TOKENS = 96


class StopAsked(Exception):
    """Somebody put a file named `stop` into the run folder."""


def settle(spec: dict[str, Any], base: ModelShape) -> TrainingSpec:
    """Return the spec with what depends on base and device filled in.

    Raises:
        SpecInvalid: the order does not fit the base model.
    """
    context = base.context_tokens(int(spec.get("context_tokens", 0)))
    settled = TrainingSpec.from_mapping({**spec, "context_tokens": context})
    return replace(settled, precision=best_precision() if settled.precision == "auto" else settled.precision)


def best_precision() -> str:
    """Return bfloat16 where the accelerator computes it; float32 on a CPU, so that serving can match it closely."""
    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def read_rows(files: Sequence[str], record: str) -> list[dict[str, Any]]:
    """Read rows with the columns that training needs; messages have the fields they have, and no others."""
    columns = {"conversation": ["id", "messages", "tools"], "document": ["id", "text"]}[record]
    return [plain_row(row) for path in files for row in pq.read_table(path, columns=columns).to_pylist()]


def prepare_split(files: Sequence[str], spec: TrainingSpec, base: BaseModel, *, is_needed: bool) -> Prepared:
    """Read and prepare one split."""
    rows = read_rows(files, OBJECTIVES[spec.objective].record)
    chosen = choose_rows(rows, spec.max_rows) if is_needed else rows
    return prepare(chosen, spec, base.tokenizer, is_needed=is_needed, template=_template(spec, base))


def _template(spec: TrainingSpec, base: BaseModel) -> ChatTemplate:
    allows = spec.left_out == "warn"
    return open_template(base.folder, base.tokenizer, spec.template_kwargs, allows_left_out=allows)


def expect_run(order: RunOrder, device: torch.device) -> None:
    """Compute what serving must answer in another number format, and leave the expectations in `result.json`."""
    folder = Path(order.folder)
    expectations = json.loads((folder / "parity.json").read_text())
    add_logprobs(expectations, open_base_model(Path(order.base_folder)), Path(order.artifact), order.expect, device)
    _write_json(folder / "result.json", {"parity": expectations})


def train_run(order: RunOrder, world: World, device: torch.device) -> None:
    """Do one run, from the newest checkpoint where there is one; rank 0 leaves `artifact/` and `result.json`.

    Raises:
        TrainingRefused: something is wrong with order, data or outcome; nothing is left to publish.
        StopAsked: the run was asked to stop.
    """
    folder = Path(order.folder)
    base = open_base_model(Path(order.base_folder))
    spec = settle(order.spec, base)
    train = prepare_split(order.train_files, spec, base, is_needed=True)
    validation = prepare_split(order.validation_files, spec, base, is_needed=False)
    torch.manual_seed(spec.seed)
    model = METHODS[spec.method](spec).wrap(base.load(base_dtype(spec))).to(device)
    leak = check_packing(model, train.rows, pad_id=base.pad_id)
    journal = Journal(folder, device)
    loop = Loop(
        model=model,
        spec=spec,
        rows=train.rows,
        validation=validation.rows,
        pad_id=base.pad_id,
        world=world,
        report=journal.report,
        checkpoints=CheckpointFolder(folder / "checkpoints", fingerprint=order.fingerprint),
        device=device,
    )
    progress = loop.run()
    if world.rank == 0:
        facts = {
            "spec": spec.as_mapping(),
            "packing_difference": leak,
            "num_rows": len(train.samples.kept),
            "counts": dict(train.samples.counts),
            "packing_efficiency": train.packing_efficiency,
            "mask_coverage": train.mask_coverage,
            "num_trainable": sum(p.numel() for p in loop.weights.values()),
            "tokens_per_s": journal.tokens_per_s,
            **summarize(progress),
            **_keep(order, spec, base, model, (*validation.samples.kept, *train.samples.kept)),
        }
        for path in (folder / "artifact").rglob("*"):
            flush(path)  # the result says that they are whole, also after a power cut
        _write_json(folder / "result.json", facts)
    world.meet()


def _keep(
    order: RunOrder, spec: TrainingSpec, base: BaseModel, model: Any, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Write `artifact/`, read it again, compare the two, and return what is to be known of it.

    Raises:
        ArtifactDiffers: what was read answers otherwise than what was trained.
    """
    device, dtype = next(model.parameters()).device, base_dtype(spec)
    compared = choose_compared(samples)
    artifact = Path(order.folder) / "artifact"
    shutil.rmtree(artifact, ignore_errors=True)
    artifact.mkdir(parents=True)
    method = METHODS[spec.method](spec)
    method.save(model, artifact, base_name=order.base_name)
    if method.makes == "model":
        base.tokenizer.save_pretrained(artifact)
        keep_chat_files(base.folder, artifact)
    loaded = method.load(base.load(dtype), artifact, dtype).to(device)
    verified = verify_artifact(model, loaded, compared[:NUM_COMPARED], pad_id=base.pad_id)
    facts = {
        "reload_difference": verified.max_difference,
        "adapter_effect": verified.max_effect,
        "num_parameters": sum(p.numel() for p in loaded.parameters()),
        "samples": sample_answers(loaded, spec, base, order.validation_files or order.train_files),
        "parity": [],
        **describe_artifact(method.makes, artifact),
    }
    if method.makes == "adapter":
        rows = read_rows([*order.validation_files, *order.train_files], OBJECTIVES[spec.objective].record)
        facts["base_dtype"] = str(stored_dtype(base.folder)).removeprefix("torch.")
        expectations = parity_expectations(compared, rows)
        del loaded  # the base is read again, for each number format
        for name in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
            add_logprobs(expectations, base, artifact, name, device)
        facts["parity"] = expectations
        if OBJECTIVES[spec.objective].record == "conversation":
            _write_json(artifact / FILE, _template(spec, base).to_json())
    return facts


def choose_compared(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that serving is compared on; what was cut off is compared only where there is nothing else."""
    whole, chosen, num_targets = [s for s in samples if not s.is_truncated] or samples[-1:], list[Sample](), 0
    for sample in whole[:MAX_COMPARED]:
        if len(chosen) >= NUM_COMPARED and num_targets >= COMPARED_TARGETS:
            break
        chosen.append(sample)
        num_targets += sample.num_targets
    return chosen


def describe_artifact(makes: str, folder: Path) -> dict[str, Any]:
    """Return what the registry keeps of an adapter or a model."""
    if makes == "model":
        return {"model": describe_model(folder)}
    config = json.loads((folder / "adapter_config.json").read_text())
    return {
        "adapter": {
            "rank": config["r"],
            "alpha": float(config["lora_alpha"]),
            "target_modules": sorted({name.rsplit(".", 1)[-1] for name in config["target_modules"]}),
        }
    }


def summarize(progress: Progress) -> dict[str, Any]:
    """Return what the curve says of the whole run."""
    steps = [point for point in progress.curve if "learning_rate" in point]
    return {
        "num_steps": progress.step,
        "train_loss": steps[-1]["loss"] if steps else None,
        "best_step": progress.best_step,
        "validation_loss": progress.best_loss,
        "num_tokens": sum(point["num_tokens"] for point in steps),
        "stopped_early": bool(steps) and progress.step < steps[-1]["num_steps"],
        "curve": progress.curve,
    }


class Journal:
    """Writes what happens to `events.jsonl`, one line per event, and looks whether the run is asked to stop."""

    def __init__(self, folder: Path, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        """Append to the folder's journal; only rank 0 ever writes. The memory it tells of is the device's."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "events.jsonl"
        self._stop = folder / "stop"
        self._clock = clock
        self._since = clock()
        self._device = device
        self._num_tokens, self._seconds = 0, 0.0
        if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
            with self._path.open("a") as file:  # a worker died in the middle of a line: the next one stands alone
                file.write("\n")

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second over all steps of this process, validations included; None before the first."""
        return self._num_tokens / self._seconds if self._num_tokens else None

    def report(self, event: StepDone | Validated) -> None:
        """Write one event; a step carries its tokens per second, validations not counted.

        Raises:
            StopAsked: there is a file named `stop`.
        """
        now = self._clock()
        line = asdict(event)
        if isinstance(event, StepDone):
            line["tokens_per_s"] = event.num_tokens / max(1e-9, now - self._since)
            line["memory_bytes"] = peak_memory_bytes(self._device)
            self._num_tokens += event.num_tokens
        self._seconds += now - self._since
        self._since = now
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._stop.exists():
            raise StopAsked


def sample_answers(model: Any, spec: TrainingSpec, base: BaseModel, files: Sequence[str]) -> list[dict[str, Any]]:
    """Let the trained model answer a few conversations greedily, beside their references."""
    if spec.objective != "instruction":
        return []
    template = _template(spec, base)
    stops = sorted(template.stop_ids)
    out = []
    for row in read_rows(files, "conversation")[:NUM_SAMPLES]:
        last = max(i for i, m in enumerate(row["messages"]) if m["role"] == "assistant")
        if last == 0:
            continue
        try:
            prompt = template.prompt_ids(row["messages"][:last], row["tools"])
        except ChatError:  # a turn that is not learned need not be one that can be asked for
            continue
        room = min(MAX_ANSWER_TOKENS, spec.context_tokens - len(prompt))
        if room < 1:
            continue
        ids = torch.tensor([prompt], device=next(model.parameters()).device)
        answer = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=room,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=base.pad_id,
        )[0, len(prompt) :]
        text = base.tokenizer.decode(answer, skip_special_tokens=True)
        said = {"id": row["id"], "prompt": row["messages"][:last], "answer": text}
        out.append({**said, "reference": row["messages"][last]["content"]})
    return out


def parity_expectations(samples: Sequence[Sample], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what serving must agree with, for each learned turn of the samples and for each piece of a document.

    That is the messages that serving is sent, the token ids of prompt and answer, and where the answer begins and ends.
    `add_logprobs` adds the logprobs.
    """
    by_id = {row["id"]: row for row in rows}
    found = []
    for sample in samples:
        row = by_id[sample.row_id]
        messages = sample.messages or row.get("messages") or ()
        for span in sample.spans or (Span(0, 1, len(sample)),):
            found.append(
                {
                    "row_id": sample.row_id,
                    "messages": list(messages[: span.turn]) if sample.spans else None,
                    "tools": row.get("tools"),
                    "token_ids": sample.token_ids[: span.end],
                    "targets": [i for i in range(span.start, span.end) if sample.is_target[i]],
                }
            )
    return found


def _write_json(path: Path, value: Any) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value))
    flush(fresh)
    fresh.replace(path)
    flush(path.parent)
