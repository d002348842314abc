"""The loop's promises to the bit: same seed, packing, workers, and a process killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from anneal.training.domain.errors import CheckpointForeign, NotFinite
from anneal.training.domain.world import Alone, ProcessGroup
from anneal.training.order import RunOrder
from anneal.training.run import train_run
from tests.fixtures.tiny_model import write_base
from tests.unit.training.runs import order, run

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("undisturbed"), base)


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_file(folder / "artifact" / "adapter_model.safetensors")
    return found


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    undisturbed: Path, base: Path, tmp_path: Path
) -> None:
    assert same(undisturbed, run(tmp_path / "again", base))
    assert not same(undisturbed, run(tmp_path / "other", base, seed=1))


def _train(made: RunOrder) -> None:
    torch.set_num_threads(1)
    train_run(made, Alone(), torch.device("cpu"))


def test_a_killed_process_goes_on_bit_for_bit(base: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    whole = spawn.Process(target=_train, args=(order(tmp_path / "whole", base),))
    whole.start()
    made = order(tmp_path / "killed", base)
    killed = spawn.Process(target=_train, args=(made,))
    killed.start()
    checkpoints = tmp_path / "killed" / "run" / "checkpoints"
    deadline = time.monotonic() + 200
    while not list(checkpoints.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not (tmp_path / "killed" / "run" / "result.json").exists()
    again = spawn.Process(target=_train, args=(made,))
    again.start()
    for process in (whole, again):
        process.join()
        assert process.exitcode == 0
    assert same(tmp_path / "whole" / "run", tmp_path / "killed" / "run")


def _train_with(rank: int, port: int, made: RunOrder) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    train_run(made, ProcessGroup(), torch.device("cpu"))
    dist.destroy_process_group()


def test_two_workers_learn_what_one_does(base: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # Made here, because it writes the rows: workers that each wrote them would read what the other has just begun.
    made = order(tmp_path / "two", base, lora={"rank": 4, "alpha": 8})
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_train_with, args=(r, port, made)) for r in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    one = weights(run(tmp_path / "one", base, lora={"rank": 4, "alpha": 8}))
    two = weights(tmp_path / "two" / "run")
    # Sums over workers are taken in another order: rounding only.
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


def test_a_checkpoint_of_another_order_is_not_gone_on_from(base: Path, tmp_path: Path) -> None:
    run(tmp_path, base)
    made = order(tmp_path, base)
    from dataclasses import replace

    with pytest.raises(CheckpointForeign):
        train_run(replace(made, fingerprint="another"), Alone(), torch.device("cpu"))


def test_a_rate_that_is_too_high_says_at_which_step_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFinite) as caught:
        run(tmp_path, base, method="full", learning_rate=1e30, max_grad_norm=1e30)
    assert int(caught.value.facts["step"]) >= 2
    assert not (tmp_path / "run" / "artifact").exists()
    assert not (tmp_path / "run" / "result.json").exists()
