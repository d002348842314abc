"""The bodies of training's long jobs, each run in a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anneal.kit.digests import digest_of, version_id
from anneal.kit.jobs.context import JobContext
from anneal.training import codec
from anneal.training.adapters import ray_train
from anneal.training.adapters.finished import Finished, FinishedTrainings, WeightsDamaged, fingerprint_of
from anneal.training.adapters.ray_runtime import connected, is_on_one_machine
from anneal.training.adapters.speeds import Speeds
from anneal.training.card import describe
from anneal.training.comparison import compare, describe_certificate
from anneal.training.errors import ParityFailed, make_refusal
from anneal.training.following import Follower, told_before
from anneal.training.model_fields import resource_fields
from anneal.training.order import RunOrder
from anneal.training.splits import fetch_split
from anneal.v1 import adapter_pb2, dataset_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as registry_pb
from anneal.v1 import training_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What an order's names mean, looked up once: `latest` may mean something else to a later attempt."""

    base_name: str
    base_digest: str
    dataset_names: list[str]
    dataset_digests: list[str]
    base_license: str = ""
    base_origin: str = ""


def train(ctx: JobContext, request: pb.CreateTrainingJobRequest) -> adapter_pb2.AdapterVersion | model_pb2.Model:
    """Train, check what came out, and store it.

    Raises:
        Refusal: data, spec or outcome are not fit; nothing is published.
        Cancelled: the job was asked to stop.
    """
    spec = codec.decode_spec(request.spec, max_workers=ctx.options["max_workers"])
    sources = _look_up(ctx, request)
    is_adapter = spec["method"] != "full"
    if is_adapter:
        # Opened before the training, so that an address that is not configured fails the job here.
        ctx.channel("serving", sources.base_name, wait_s=0)
    stored = FinishedTrainings(ctx.store, ctx.project)
    fingerprint = fingerprint_of(ctx.project, spec, sources.base_digest, sources.dataset_digests)
    folder = ctx.scratch / "run"
    follow = Follower(ctx, folder, told_before(ctx))
    finished = _take_up(ctx, stored, fingerprint) or _train(ctx, request, spec, sources, folder, follow)
    follow()
    stored.put(fingerprint, finished)
    result = finished.result
    described = describe(
        result,
        base_name=sources.base_name,
        base_digest=sources.base_digest,
        base_license=sources.base_license,
        base_origin=sources.base_origin,
        datasets=sources.dataset_names,
    )
    digest = ctx.store.extend_tree(finished.weights, described)
    if not is_adapter:
        return _model(ctx, request, sources, result, digest)
    ctx.progress(result["num_steps"], result["num_steps"], "steps", "comparing with serving")
    try:
        certificate = compare(
            ctx,
            finished,
            base_name=sources.base_name,
            base_digest=sources.base_digest,
            adapter_digest=digest,
            run=lambda order: _on_ray(ctx, order, workers=1, watch=ctx.check),
            keep=lambda fuller: stored.put(fingerprint, fuller),
        )
    except ParityFailed:
        stored.forget(fingerprint)  # what could not be certified is not offered again
        raise
    ctx.log(describe_certificate(certificate))
    return _adapter(request, sources, result, digest, certificate)


def _take_up(ctx: JobContext, stored: FinishedTrainings, fingerprint: str) -> Finished | None:
    """The same training, when one has ended and its result is not published; None when there is none to use."""
    ctx.progress(0, None, "steps", "looking for weights of the same training")
    try:
        found = stored.find(fingerprint)
    except WeightsDamaged as damage:
        ctx.log(f"the same training ended before, but cannot be used, so it is trained again: {damage}", "warning")
        return None
    if found is None:
        return None
    by = "an earlier attempt" if found.trained_by == ctx.operation else found.trained_by
    ctx.log(f"the weights that {by} trained for the same request are used: nothing is trained again ({found.weights})")
    steps = found.result["num_steps"]
    ctx.progress(steps, steps, "steps", f"using the weights of {by}")
    return replace(found, operation=ctx.operation)


def _train(
    ctx: JobContext,
    request: pb.CreateTrainingJobRequest,
    spec: dict[str, Any],
    sources: Sources,
    folder: Path,
    follow: Follower,
) -> Finished:
    """Train from where the attempts before this one came to, and store the weights."""
    ctx.progress(0, None, "steps", "fetching the base model and the rows")
    result = _local_result(folder)
    if result is None:
        result = _run(ctx, request, spec, sources, folder, follow)
    follow()
    speed = result.get("tokens_per_s")
    if speed:
        Speeds(Path(ctx.options["speeds"])).put(sources.base_digest, spec["method"], speed)
    ctx.progress(result["num_steps"], result["num_steps"], "steps", "storing the weights")
    weights = ctx.store.put_tree(folder / "artifact")
    return Finished(result=result, weights=weights, trained_by=ctx.operation, operation=ctx.operation)


def _local_result(folder: Path) -> dict[str, Any] | None:
    """The result that an attempt before left; it is written last, so what it speaks of is whole."""
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except (FileNotFoundError, ValueError):  # a power cut can leave an empty file
        return None
    return result


def _run(
    ctx: JobContext,
    request: pb.CreateTrainingJobRequest,
    spec: dict[str, Any],
    sources: Sources,
    folder: Path,
    follow: Follower,
) -> dict[str, Any]:
    """Train on Ray from the newest checkpoint, or from the start."""
    workers = request.spec.workers or 1
    data = ctx.scratch / "data"
    files = {s: fetch_split(ctx.store, sources.dataset_digests, s, data) for s in ("train", "validation")}
    order = RunOrder(
        spec=spec,
        base_folder=str(ctx.store.materialize(sources.base_digest)),
        base_name=sources.base_digest,
        train_files=[str(path) for path in files["train"]],
        validation_files=[str(path) for path in files["validation"]],
        folder=str(folder),
        fingerprint=digest_of([spec, sources.base_digest, sources.dataset_digests]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    return _on_ray(ctx, order, workers=workers, watch=follow)


def _on_ray(ctx: JobContext, order: RunOrder, *, workers: int, watch: Callable[[], None]) -> dict[str, Any]:
    """Run an order on Ray and return its result.

    Raises:
        Refusal: the workers refuse data, spec or outcome.
    """
    stop = Path(order.folder) / "stop"
    stop.unlink(missing_ok=True)
    ctx.progress(0, None, "steps", "waiting for Ray")
    start = time.monotonic()
    try:
        with connected(ctx.options):
            ctx.log(f"connected to Ray after {time.monotonic() - start:.1f} s")
            ctx.check()
            result = ray_train.run(
                order,
                workers=workers,
                cpus=ctx.options["worker_cpus"],
                on_one_machine=is_on_one_machine(ctx.options),
                watch=watch,
            )
            watch()
    finally:
        stop.touch()  # whatever the workers still do, it is over
    refused = result.get("refused")
    if refused:
        raise make_refusal(
            refused["reason"], refused["message"], refused["facts"], [(f, t) for f, t in refused["violations"]]
        )
    return result


def _look_up(ctx: JobContext, request: pb.CreateTrainingJobRequest) -> Sources:
    path = ctx.scratch / "sources.json"
    if path.exists():
        return Sources(**json.loads(path.read_text()))
    registry: Any = RegistryServiceStub(ctx.channel("registry"))
    base: model_pb2.Model = registry.GetModel(registry_pb.GetModelRequest(name=request.base_model))
    versions: list[dataset_pb2.DatasetVersion] = [
        registry.GetDatasetVersion(registry_pb.GetDatasetVersionRequest(name=name)) for name in request.dataset_versions
    ]
    found = {
        "base_name": base.name,
        "base_digest": base.digest,
        "base_license": base.license,
        "base_origin": base.origin,
        "dataset_names": [version.name for version in versions],
        "dataset_digests": [version.digest for version in versions],
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found))
    fresh.replace(path)
    return Sources(**found)  # type: ignore[arg-type]


def _adapter(
    request: pb.CreateTrainingJobRequest,
    sources: Sources,
    result: dict[str, Any],
    digest: str,
    certificate: adapter_pb2.ParityCertificate,
) -> adapter_pb2.AdapterVersion:
    return adapter_pb2.AdapterVersion(
        name=f"{request.parent}/adapters/{request.output_id}/versions/{version_id(digest)}",
        digest=digest,
        base_model=sources.base_name,
        base_model_digest=sources.base_digest,
        rank=result["adapter"]["rank"],
        alpha=result["adapter"]["alpha"],
        target_modules=result["adapter"]["target_modules"],
        dataset_versions=sources.dataset_names,
        method=result["spec"]["method"],
        train_loss=result["train_loss"],
        validation_loss=result["validation_loss"],
        step_count=result["num_steps"],
        token_count=result["num_tokens"],
        parity=certificate,
    )


def _model(
    ctx: JobContext, request: pb.CreateTrainingJobRequest, sources: Sources, result: dict[str, Any], digest: str
) -> model_pb2.Model:
    made = result["model"]
    return model_pb2.Model(
        name=f"{request.parent}/models/{request.output_id}",
        digest=digest,
        architecture=made["architecture"],
        parameter_count=made["parameter_count"],
        context_length=made["context_length"],
        origin=ctx.operation,
        dataset_versions=sources.dataset_names,
        **{**resource_fields(made), "license": made["license"] or sources.base_license},
    )
