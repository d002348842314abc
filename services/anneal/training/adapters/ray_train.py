"""Runs the loop on Ray Train's workers."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anneal.training.domain.errors import SpecInvalid, TrainingRefused
from anneal.training.order import RunOrder

POLL_S = 0.5
MAX_FAILURES = 2
"""Times that Ray Train starts lost workers again before the job's own attempt is given up."""
REFUSED = "refused.json"


class RunFailed(Exception):
    """The workers failed, and it was no refusal: another attempt may do better."""


def run(order: RunOrder, *, workers: int, cpus: int, on_one_machine: bool, watch: Callable[[], None]) -> dict[str, Any]:
    """Run an order on workers of the connected Ray; returns the result that rank 0 left, or the refusal.

    Args:
        order: what every worker is told.
        workers: how many.
        cpus: processors of each.
        on_one_machine: all workers are processes of this machine, and nothing may listen beyond it.
        watch: called about twice a second meanwhile; what it raises ends the wait.

    Raises:
        RunFailed: the workers failed.
    """
    import ray.train
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    folder = Path(order.folder)
    (folder / REFUSED).unlink(missing_ok=True)
    use_gpu = bool(ray.cluster_resources().get("GPU"))
    backend = "cpu:gloo,cuda:nccl" if use_gpu else "gloo"
    trainer = TorchTrainer(
        work,
        train_loop_config={"order": asdict(order), "join": backend if on_one_machine else ""},
        torch_config=_unjoined(backend) if on_one_machine else TorchConfig(backend=backend),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name="run",
            storage_path=str(folder / "ray"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=fit, daemon=True, name="ray-train")
    thread.start()
    while thread.is_alive() and not (folder / REFUSED).exists():
        thread.join(POLL_S)
        watch()
    if (folder / REFUSED).exists():
        return {"refused": json.loads((folder / REFUSED).read_text())}
    if failed:
        raise RunFailed(f"the Ray Train workers failed: {_first_line(failed[0])}") from failed[0]
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def _unjoined(backend: str) -> Any:
    """Ray Train's settings for workers that join themselves.

    Ray Train joins them over a store of torch's that listens on every address of the machine, for anybody.
    """
    from ray.train.backend import Backend
    from ray.train.torch import TorchConfig

    class Unjoined(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> Any:
            return Backend

    return Unjoined(backend=backend)


def _join(folder: Path, backend: str, rank: int, size: int) -> None:
    """Join the workers of one machine over a file and its loopback."""
    import torch.distributed as dist
    from ray.train.collective import broadcast_from_rank_zero

    # A file that a killed group has left behind would be taken for this one's.
    name = broadcast_from_rank_zero(uuid.uuid4().hex)
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(backend, init_method=f"file://{folder}/join-{name}", rank=rank, world_size=size)


def work(config: dict[str, Any]) -> None:
    """Do one worker's part: the body that Ray Train calls."""
    import ray.train
    import ray.train.torch
    import torch

    from anneal.training.domain.world import Alone, ProcessGroup
    from anneal.training.run import StopAsked, expect_run, train_run

    order = RunOrder(**config["order"])
    folder = Path(order.folder)
    context = ray.train.get_context()
    size, rank = context.get_world_size(), context.get_world_rank()
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // max(1, context.get_local_world_size())))
    if size > 1 and config["join"]:
        _join(folder, config["join"], rank, size)
    world = ProcessGroup() if size > 1 else Alone()
    with _alone_in(folder, needed=rank == 0):
        world.meet()
        try:
            if order.expect:
                expect_run(order, ray.train.torch.get_device())
            else:
                train_run(order, world, ray.train.torch.get_device())
        except StopAsked:
            return
        except TrainingRefused as error:
            _write_refusal(folder, rank, error)
            if size > 1:
                raise  # others may wait for this worker


@contextmanager
def _alone_in(folder: Path, *, needed: bool) -> Iterator[None]:
    """Wait until no worker of an attempt before still writes into the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        if needed:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_refusal(folder: Path, rank: int, error: TrainingRefused) -> None:
    violations = error.violations if isinstance(error, SpecInvalid) else []
    said = {"reason": error.reason, "message": str(error), "facts": error.facts, "violations": violations}
    fresh = folder / f".{REFUSED}-{rank}"
    fresh.write_text(json.dumps(said))
    fresh.replace(folder / REFUSED)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
