"""Jobs on a real Ray runtime: killed and resumed, refused, cancelled; and nothing left running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from google.longrunning import operations_pb2

from anneal.v1 import adapter_pb2
from anneal.v1 import registry_service_pb2 as registry_pb
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import PROJECT, House, details, order, running, small_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def processes(*words: str) -> list[int]:
    """Processes whose command line and environment hold all of the words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = ((entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()).decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(entry.name))
    return found


def listening(pids: list[int]) -> set[str]:
    """Addresses that these processes take connections on."""
    found = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            sockets = psutil.Process(pid).net_connections("tcp")
            found |= {
                socket.laddr.ip.removeprefix("::ffff:") for socket in sockets if socket.status == psutil.CONN_LISTEN
            }
    return found


async def until(is_so: Callable[[], object], what: str, timeout_s: float = 200) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not is_so():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited in vain for {what}")


def ray_homes(house: House) -> list[str]:
    log = house.host.settings.data_dir / "training" / "ray.json"
    return [log.read_text().split('"home": "')[1].split('"')[0]] if log.exists() else []


async def test_jobs_on_one_runtime(tmp_path: Path) -> None:
    async with running(tmp_path, local_ray=True) as house:
        base = await house.import_base(write_base(house.models / "base"))
        rows = await house.dataset(small_rows())
        await killed_and_resumed(house, base.name, rows.name)
        (home,) = ray_homes(house)
        assert processes(home)
        await too_high_a_rate(house, base.name, rows.name)
        await cancelled(house, base.name, rows.name)
        assert ray_homes(house) == [home]  # one runtime for all of them
    assert not processes(home)
    assert not Path(home).exists()


async def killed_and_resumed(house: House, base: str, rows: str) -> None:
    """A killed worker, then a killed job, go on from the checkpoint: each step is told once, one model comes out."""
    changes = {"method": "full", "learning_rate": 1e-3, "checkpoint_steps": 5, "epochs": 24, "evaluation_steps": 40}
    started = await house.training.CreateTrainingJob(order(base, rows, output_id="grown", **changes))
    scratch = house.host.settings.data_dir / "scratch" / started.name.rsplit("/", 1)[-1]
    checkpoints = scratch / "run" / "checkpoints"

    def newest() -> int:
        return max((int(path.name.removeprefix("step-")) for path in checkpoints.glob("step-*")), default=0)

    await until(newest, "a checkpoint")
    (home,) = ray_homes(house)
    for pid in processes("ray::RayTrainWorker", home):
        os.kill(pid, signal.SIGKILL)
    reached = newest()
    await until(lambda: newest() > reached + 5, "a checkpoint of the worker that Ray Train started again")
    for pid in processes("anneal.kit.jobs.run", started.name):
        os.kill(pid, signal.SIGKILL)
    model = await house.model(await house.finished(started, 300))
    assert model.name == f"{PROJECT}/models/grown"
    assert (list(model.dataset_versions), model.operation) == ([rows], started.name)
    events = await house.events(started.name)
    told: dict[str, list[int]] = {}
    for event in events:
        if event.HasField("metric"):
            told.setdefault(event.metric.name, []).append(event.metric.step)
    assert told["train_loss"] == told["memory_bytes"] == list(range(1, 121))  # none is lost, none told twice
    assert told["validation_loss"] == [40, 80, 120]
    assert len(told["tokens"]) == 120
    assert set(told) >= {"tokens_per_second", "grad_norm", "learning_rate"}


async def too_high_a_rate(house: House, base: str, rows: str) -> None:
    """The loss stops being finite: one attempt, a step in the message, nothing published. On two workers."""
    wild = order(base, rows, method="full", output_id="wild", learning_rate=1e30, max_grad_norm=1e30, workers=2)
    done = await house.finished(await house.training.CreateTrainingJob(wild), 200)
    assert details(done.error)[0] == "LOSS_NOT_FINITE"
    assert "at step" in done.error.message
    models = await house.registry.ListModels(registry_pb.ListModelsRequest(parent=PROJECT))
    assert {model.name.rsplit("/", 1)[-1] for model in models.models} == {"base", "grown"}


async def cancelled(house: House, base: str, rows: str) -> None:
    """Two workers listen on loopback only; a cancelled job stops in the middle, and they with it."""
    request = order(base, rows, method="full", output_id="stopped", epochs=5000, workers=2)
    started = await house.training.CreateTrainingJob(request)
    journal = house.host.settings.data_dir / "scratch" / started.name.rsplit("/", 1)[-1] / "run" / "events.jsonl"
    await until(journal.exists, "the first step")
    (home,) = ray_homes(house)
    assert len(processes("ray::RayTrainWorker", home)) == 2
    assert listening(processes(home)) == {"127.0.0.1"}
    await house.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=started.name))
    done = await house.finished(started, 60)
    assert done.error.code == 1  # CANCELLED
    await until(lambda: not processes("ray::RayTrainWorker", home), "the workers' end", 30)


@pytest.mark.vllm
async def test_an_adapter_is_published_with_serving_as_its_witness(tmp_path: Path) -> None:
    from anneal.serving.bootstrap import build as build_serving
    from anneal.serving.settings import ServingOptions

    serving = ServingOptions(max_adapters=2, max_sequences=16, kv_cache_bytes=64 << 20)
    others = [lambda runtime: build_serving(runtime, serving)]
    nobody = "127.0.0.1:1"
    async with running(tmp_path, serving=nobody, local_ray=True, parity_deadline_s=1.0) as house:
        base = await house.import_base(write_base(house.models / "base", context=1024))
        rows = await house.dataset(small_rows())
        request = order(base.name, rows.name, workers=2)
        alone = await house.finished(await house.training.CreateTrainingJob(request), 400)
        assert details(alone.error)[0] == "SERVING_UNAVAILABLE"
        assert any(event.metric.name == "train_loss" for event in await house.events(alone.name))
    # Serving comes; the same request needs no Ray any more, because the weights are there.
    async with running(tmp_path, others=others, local_ray=False) as house:
        started = await house.training.CreateTrainingJob(request)
        done = await house.finished(started, 400)
        assert not done.HasField("error"), done.error
        version = adapter_pb2.AdapterVersion()
        assert done.response.Unpack(version)
        assert not any(event.metric.name == "train_loss" for event in await house.events(started.name))
    assert version.parity.passed
    assert version.parity.token_ids_equal
    assert version.parity.max_logprob_difference < 1e-5 < version.parity.tolerance < 1e-3
    assert (version.parity.dtype, version.parity.base_dtype) == ("float32", "float32")
    assert "vllm" in version.parity.engines
    assert version.parity.sample_count == 32
    assert (version.rank, version.alpha, version.method) == (4, 8.0, "lora")
    assert "q_proj" in version.target_modules
    assert version.base_model_digest == base.digest
    assert list(version.dataset_versions) == [rows.name]
    held = {path.name for path in house.host.store.materialize(version.digest).iterdir()}
    described = {"README.md", "anneal_chat.json", "curves.json", "samples.json"}
    assert held == {"adapter_model.safetensors", "adapter_config.json", *described}
