"""Works out a plan: real rows, real tokenizer, the model's shape; no accelerator, no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from anneal.kit.engine.models import Device
from anneal.kit.store import Store
from anneal.training import measure
from anneal.training.adapters import memory
from anneal.training.adapters.speeds import Speeds
from anneal.training.domain.base_model import BaseModel, open_base_model, open_shape
from anneal.training.domain.chat_files import added_tokens
from anneal.training.domain.errors import TrainingRefused
from anneal.training.domain.methods import METHODS, base_dtype
from anneal.training.domain.objectives import OBJECTIVES
from anneal.training.domain.plan import Plan, make_plan
from anneal.training.domain.prepare import Prepared, choose_rows
from anneal.training.domain.served import check_spec
from anneal.training.domain.spec import TrainingSpec
from anneal.training.domain.tokenizer_fit import MAX_ROWS, Fit, fit_of
from anneal.training.errors import refusal_of
from anneal.training.run import prepare_split, read_rows, settle
from anneal.training.splits import fetch_split
from anneal.v1 import training_service_pb2 as pb

_SMALL = ("config.json", "generation_config.json")
"""Files that say a model's shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a plan is asked for: digests, no names.

    Attributes:
        spec: as `codec.decode_spec` gives it.
        base_digest: of the base model's tree.
        dataset_digests: manifests.
        workers: Ray Train workers.
        max_rank: highest rank of an adapter that serving has room for on this base.
        device: where serving computes: `cpu`, `cuda`, or `auto` for what this process computes on.
    """

    spec: Mapping[str, Any]
    base_digest: str
    dataset_digests: Sequence[str]
    workers: int
    max_rank: int
    device: Literal["auto", "cpu", "cuda"]


def check(store: Store, scratch: Path, wanted: Wanted) -> None:
    """Check what can be known of an order before its rows and weights are read; of the base only its small files are.

    Raises:
        Refusal: serving could not serve what would come out, or the spec does not fit the base.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=scratch) as folder:
            base = open_shape(fetch_small_files(store, wanted.base_digest, Path(folder)))
            check_spec(settle(dict(wanted.spec), base), base, max_rank=wanted.max_rank, device=device_of(wanted.device))
    except TrainingRefused as error:
        raise refusal_of(error) from error


def device_of(said: Literal["auto", "cpu", "cuda"]) -> Device:
    """Where serving computes; `auto` is taken for what this process computes on."""
    if said != "auto":
        return said
    return "cuda" if torch.cuda.is_available() else "cpu"


def fetch_small_files(store: Store, digest: str, folder: Path) -> Path:
    """Fetch a base model's configuration without its weights."""
    for name, entry in store.tree(digest).items():
        if name in _SMALL:
            store.download(entry["digest"], folder / name)
    return folder


def plan(store: Store, speeds: Speeds, scratch: Path, wanted: Wanted) -> pb.TrainingPlan:
    """Read everything and count it.

    Raises:
        Refusal: a row cannot be trained on, nothing is left, or the spec does not fit the base.
    """
    try:
        base = open_base_model(store.materialize(wanted.base_digest))
        spec = settle(dict(wanted.spec), base)
        check_spec(spec, base, max_rank=wanted.max_rank, device=device_of(wanted.device))
        files = {
            split: [str(path) for path in fetch_split(store, wanted.dataset_digests, split, scratch)]
            for split in ("train", "validation")
        }
        train, validation = (
            prepare_split(paths, spec, base, is_needed=split == "train") for split, paths in files.items()
        )
        fit = fit_of(base.tokenizer, read_texts(files["train"], spec))
        known = speeds.get(wanted.base_digest, spec.method)
        speed = known if known is not None else _try_out(spec, base, train, wanted.workers)
        made = make_plan(spec, base, train, validation, tokens_per_s=speed)
    except TrainingRefused as error:
        raise refusal_of(error) from error
    notes = [*fit.warnings(), *_token_notes(base, spec, train)]
    return _encode(replace(made, warnings=(*made.warnings, *notes)), wanted.workers, fit)


def read_texts(files: Sequence[str], spec: TrainingSpec) -> Iterator[list[str]]:
    """The texts of rows as people wrote them, at most `MAX_ROWS` of them, chosen by their id."""
    rows = choose_rows(read_rows(files, OBJECTIVES[spec.objective].record), spec.max_rows)
    for row in choose_rows(rows, MAX_ROWS):
        messages = row.get("messages")
        texts = [row.get("text")] if messages is None else [message.get("content") for message in messages]
        yield [text for text in texts if isinstance(text, str)]


def _token_notes(base: BaseModel, spec: TrainingSpec, train: Prepared) -> list[str]:
    """What is to be known of special tokens that the base was given when it was imported."""
    tokens = added_tokens(base.folder)
    if not tokens or spec.method == "full":
        return []
    ids = {base.tokenizer.convert_tokens_to_ids(token) for token in tokens}
    learned = sum(
        1
        for sample in train.samples.kept
        for number, is_target in zip(sample.token_ids, sample.is_target, strict=True)
        if is_target and number in ids
    )
    note = (
        f"the special tokens {', '.join(tokens)} were added to the base, and an adapter does not train their "
        "embeddings (the engine serves none on them): only the method full does"
    )
    return [f"{note}; {learned:,} of the tokens to learn are of them"] if learned else [note]


def _try_out(spec: TrainingSpec, base: BaseModel, train: Prepared, workers: int) -> float | None:
    """Tokens per second of one forward and backward pass, of small models only."""
    method = METHODS[spec.method](spec)
    if sum(p.numel() for p in base.skeleton().parameters()) > measure.MAX_PARAMETERS:
        return None
    model = method.wrap(base.load(base_dtype(spec)))
    return workers * measure.tokens_per_second(model, spec, train.rows[:1], base.pad_id, torch.device("cpu"))


def _encode(made: Plan, workers: int, fit: Fit) -> pb.TrainingPlan:
    available = memory.available_bytes()
    if available is not None:
        available //= workers
    warnings = list(made.warnings)
    fits = None if available is None else made.memory_bytes <= available
    if fits is False:
        warnings.append(f"about {made.memory_bytes >> 20} MiB are needed per worker, {(available or 0) >> 20} are free")
    return pb.TrainingPlan(
        row_count=made.num_rows,
        tokens_per_epoch=made.tokens_per_epoch,
        loss_tokens_per_epoch=made.targets_per_epoch,
        too_long_count=made.num_too_long,
        packing_efficiency=made.packing_efficiency,
        mask_coverage=made.mask_coverage,
        step_count=made.num_steps,
        trainable_parameter_count=made.num_trainable,
        parameter_count=made.num_parameters,
        memory_bytes=made.memory_bytes,
        available_memory_bytes=available,
        fits=fits,
        duration_seconds=made.duration_s,
        warnings=warnings,
        sample=made.sample,
        sample_count=made.num_samples,
        reached_share=made.reached_share,
        tokenizer_fit=_encode_fit(fit),
    )


def _encode_fit(fit: Fit) -> pb.TokenizerFit:
    return pb.TokenizerFit(
        character_count=fit.num_characters,
        token_count=fit.num_tokens,
        unknown_share=fit.unknown_share,
        digits_per_token=fit.digits_per_token,
        languages=[
            pb.LanguageFit(
                script=one.script,
                row_count=one.num_rows,
                tokens_per_character=one.tokens_per_character,
                unknown_share=one.unknown_share,
            )
            for one in fit.scripts
        ],
    )
