"""What becomes of a training that ended when serving cannot compare it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.longrunning import operations_pb2

from anneal.kit.errors import NotReady, NotYet
from anneal.kit.options import JobOptions
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.training.bootstrap import build as build_training
from anneal.training.settings import TrainingOptions
from anneal.v1 import adapter_pb2, job_service_pb2
from anneal.v1 import registry_service_pb2 as registry_pb
from tests.contract.training.scoring import Scoring, free_port, scoring
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import PROJECT, House, details, order, small_rows

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(240)]
UNAVAILABLE = 14
UNRESOLVED = "no-such-name.invalid:50051"


class AdapterRefused(NotYet):
    reason = "ADAPTER_REFUSED"


@dataclass
class World:
    """Registry and training on one host; serving, when there is one, on a port of its own."""

    house: House
    serving: Scoring
    folder: Path
    port: int
    options: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)

    def order(self, seed: int, **changes: Any) -> Any:
        """A training of three steps; each seed is another one."""
        return order(self.names["base"], self.names["rows"], seed=seed, **{"max_steps": 3, **changes})

    async def start(self, seed: int, **changes: Any) -> operations_pb2.Operation:
        started: operations_pb2.Operation = await self.house.training.CreateTrainingJob(self.order(seed, **changes))
        return started

    def listening(self) -> Any:
        return self.serving.listening(self.folder / "serving", self.port)

    async def progress(self, operation: operations_pb2.Operation, *words: str) -> str:
        """Wait until the operation's progress says these words."""
        said = ""
        try:
            async with asyncio.timeout(100):
                while not all(word in said for word in words):
                    await asyncio.sleep(0.05)
                    request = operations_pb2.GetOperationRequest(name=operation.name)
                    now = await self.house.operations.GetOperation(request)
                    assert not now.done, now
                    said = metadata(now).progress.message
        except TimeoutError:
            pytest.fail(f"the last progress was {said!r}")
        return said

    async def adapter(self, operation: operations_pb2.Operation) -> adapter_pb2.AdapterVersion:
        done = await self.house.finished(operation)
        assert not done.HasField("error"), done.error
        assert metadata(done).attempt == 1
        version = adapter_pb2.AdapterVersion()
        assert done.response.Unpack(version)
        assert version.parity.passed
        return version

    async def failure(self, operation: operations_pb2.Operation) -> tuple[int, str, str]:
        """Code, reason and message."""
        done = await self.house.finished(operation)
        assert metadata(done).attempt == 1
        return done.error.code, details(done.error)[0], done.error.message

    async def steps(self, operation: operations_pb2.Operation) -> list[int]:
        """The steps that the operation trained."""
        events = await self.house.events(operation.name)
        return [e.metric.step for e in events if e.metric.name == "train_loss"]

    async def log(self, operation: operations_pb2.Operation) -> str:
        return "\n".join(e.log.text for e in await self.house.events(operation.name) if e.HasField("log"))

    async def cancel(self, operation: operations_pb2.Operation) -> None:
        """Ask the operation to stop, and see it stop."""
        await self.house.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))
        done = await self.house.finished(operation, 20)
        assert metadata(done).state == job_service_pb2.JOB_STATE_CANCELLED

    def recorded(self) -> list[dict[str, Any]]:
        return [record for _, record in self.house.host.store.records("trainings/p")]

    def forget_scratch(self) -> None:
        """What another pod does not have."""
        shutil.rmtree(self.house.host.settings.data_dir / "scratch")


def metadata(operation: operations_pb2.Operation) -> job_service_pb2.JobMetadata:
    found = job_service_pb2.JobMetadata()
    assert operation.metadata.Unpack(found)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("comparison")
    models, options = folder / "models", dict[str, Any]()
    chosen = TrainingOptions(model_folders=(str(models),))

    def build(runtime: Runtime) -> Service:
        service = build_training(runtime, chosen)
        train, *others = service.kinds
        told = train.options
        body = "tests.contract.training.bodies:train"
        return replace(service, kinds=(replace(train, body=body, options=lambda: {**told(), **options}), *others))

    settings = ServiceSettings(data_dir=folder / "data", jobs=JobOptions(lease_s=10, backoff_s=0.05))
    async with hosted(folder / "data", [build_registry, build], settings=settings) as host:
        house, port = House(host, models), free_port()
        world = World(house, scoring(host.store), folder, port, options)
        world.names["base"] = (await house.import_base(write_base(models / "base"))).name
        world.names["rows"] = (await house.dataset(small_rows())).name
        yield world


@pytest_asyncio.fixture(loop_scope="package")
async def world(shared: World) -> World:
    shared.serving = scoring(shared.house.host.store)
    shared.options.clear()
    shared.options.update(serving=f"127.0.0.1:{shared.port}", parity_deadline_s=120.0)
    assert not shared.recorded()
    return shared


async def test_serving_is_waited_for_whatever_it_lacks(world: World) -> None:
    started = await world.start(1)
    said = await world.progress(started, "waiting for serving: ")
    assert "\n" not in said
    world.serving.fault = NotReady("the engine loads its weights")
    async with world.listening():
        await world.progress(started, "waiting for serving: the engine loads its weights")
        world.serving.fault, world.serving.hangs, calls = None, True, world.serving.calls
        async with asyncio.timeout(60):
            while world.serving.calls == calls:
                await asyncio.sleep(0.05)
    await world.progress(started, "waiting for serving: ")  # its call was cut by the end of the server
    world.serving.hangs = False
    async with world.listening():
        version = await world.adapter(started)
    assert await world.steps(started) == [1, 2, 3]
    assert "waiting for serving: " in await world.log(started)
    assert version.operation == started.name
    assert not world.recorded()


async def test_after_the_deadline_the_same_request_uses_the_weights(world: World) -> None:
    world.options.update(parity_deadline_s=1.5, serving=UNRESOLVED)
    first = await world.start(2)
    code, reason, message = await world.failure(first)
    assert (code, reason) == (UNAVAILABLE, "SERVING_UNAVAILABLE")
    assert "weights are stored" in message
    assert "send the same request again" in message
    world.forget_scratch()
    world.options.update(parity_deadline_s=120.0, serving=f"127.0.0.1:{world.port}")
    async with world.listening():
        second = await world.start(2, output_id="again")
        version = await world.adapter(second)
    assert (await world.steps(first), await world.steps(second)) == ([1, 2, 3], [])
    assert f"the weights that {first.name} trained" in await world.log(second)
    assert version.name.startswith(f"{PROJECT}/adapters/again/versions/")
    assert (version.step_count, version.operation) == (3, second.name)
    held = {path.name for path in world.house.host.store.materialize(version.digest).iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "curves.json", "samples.json"} <= held
    assert not world.recorded()


async def test_a_cancelled_comparison_leaves_the_weights(world: World) -> None:
    first = await world.start(3)
    await world.progress(first, "waiting for serving: ")
    await world.cancel(first)
    world.forget_scratch()
    world.serving.hangs = True
    async with world.listening():
        second = await world.start(3)
        async with asyncio.timeout(100):
            while not world.serving.calls:
                await asyncio.sleep(0.05)
        await world.cancel(second)
        world.serving.hangs = False
        third = await world.start(3)
        await world.adapter(third)
    assert await world.steps(second) == await world.steps(third) == []
    assert f"the weights that {first.name} trained" in await world.log(third)


async def test_a_difference_is_not_waited_for_and_its_weights_are_not_used_again(world: World) -> None:
    world.serving.shift = 0.5
    async with world.listening():
        first = await world.start(4)
        assert (await world.failure(first))[1] == "PARITY_FAILED"
        assert world.serving.calls == 32  # short answers: as many samples as are compared at most
        assert not world.recorded()
        world.serving.shift = 0.0
        second = await world.start(4)
        await world.adapter(second)
    assert await world.steps(second) == [1, 2, 3]


async def test_what_serving_must_answer_is_computed_in_the_number_format_that_it_says(world: World) -> None:
    """Training knows what is expected in float32 only; the rest follows from what serving says."""
    world.serving.dtype = "bfloat16"
    async with world.listening():
        started = await world.start(6, epochs=20, max_steps=30)
        version = await world.adapter(started)
    parity = version.parity
    assert (parity.dtype, parity.base_dtype, parity.engines.split(", ")[1]) == ("bfloat16", "float32", "stand-in 1")
    assert parity.max_logprob_difference == pytest.approx(0, abs=1e-6)
    assert 0 < parity.rounding < parity.rms_tolerance < parity.tolerance
    assert 0 < parity.effect_resolution <= parity.effect_tolerance <= 0.05
    assert parity.effect > 0.1
    assert parity.effect_kept == pytest.approx(1, abs=0.1)
    assert "serving computes in bfloat16" in await world.log(started)


async def test_a_number_format_without_a_tolerance_is_refused_and_the_weights_stay(world: World) -> None:
    for dtype, word in (("float8", "float8"), ("", "upgrade serving")):
        world.serving.dtype = dtype
        async with world.listening():
            _, reason, message = await world.failure(await world.start(7))
        assert reason == "SERVING_DTYPE_UNKNOWN"
        assert word in message
        assert len(world.recorded()) == 1
    world.serving.dtype = "float32"
    async with world.listening():
        again = await world.start(7)
        await world.adapter(again)
    assert await world.steps(again) == []


async def test_a_refusal_of_serving_is_not_waited_for_and_the_weights_stay(world: World) -> None:
    world.serving.fault = AdapterRefused("rank 4 is above 2, the highest that is served here", cause="rank")
    async with world.listening():
        assert (await world.failure(await world.start(5)))[1] == "ADAPTER_REFUSED"
        assert world.serving.calls == 1
        world.serving.fault, world.serving.shift = None, 0.5
        second = await world.start(5)
        assert (await world.failure(second))[1] == "PARITY_FAILED"
    assert await world.steps(second) == []
    assert not world.recorded()  # and a third request trains again


async def test_damaged_weights_are_trained_again(world: World) -> None:
    world.options.update(parity_deadline_s=1.0)
    assert (await world.failure(await world.start(6)))[1] == "SERVING_UNAVAILABLE"
    (record,) = world.recorded()
    store = world.house.host.store
    path = Path(store.url) / store._key(store.tree(record["weights"])["adapter_model.safetensors"]["digest"])
    path.write_bytes(path.read_bytes()[:-7])
    world.options.update(parity_deadline_s=120.0)
    async with world.listening():
        second = await world.start(6)
        version = await world.adapter(second)
    assert await world.steps(second) == [1, 2, 3]
    assert f"a file of {record['weights']} is missing or damaged" in await world.log(second)
    assert store.is_whole_tree(version.digest)


async def test_a_whole_model_that_was_not_published_is_not_trained_again(world: World) -> None:
    """Its name is taken meanwhile: the request for another name uses the weights."""
    changes = {"method": "full", "learning_rate": 1e-3}
    started = await world.start(7, output_id="taken", **changes)
    base = await world.house.registry.GetModel(registry_pb.GetModelRequest(name=world.names["base"]))
    request = registry_pb.CreateModelRequest(parent=PROJECT, model_id="taken", model=base)
    await world.house.registry.CreateModel(request)
    assert (await world.failure(started))[1] == "MODEL_EXISTS"
    second = await world.start(7, output_id="free", **changes)
    model = await world.house.model(second)
    assert model.operation == second.name
    assert (await world.steps(started), await world.steps(second)) == ([1, 2, 3], [])
    assert not world.recorded()
