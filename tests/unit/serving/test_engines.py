from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from anneal.kit.engine.adapters import AdapterFacts, TensorFacts
from anneal.kit.engine.models import EngineModel
from anneal.kit.store import BlobMissing
from anneal.serving.domain.answers import AdapterRef, Continuation, EngineInfo, Piece, Prompt, Scored, TextPrompt
from anneal.serving.domain.errors import AdapterMissing, EngineBusy, ModelMissing, ModelRefused
from anneal.serving.domain.sampling import Sampling, check_sampling
from anneal.serving.engines import Engines
from anneal.serving.inference import Answerer, Inference, Target
from anneal.serving.meters import Meters
from anneal.serving.served_base import Limits, ServedBase

BASES = {letter: "sha256:" + letter * 64 for letter in "abc"}
LAYER = "model.layers.0.q_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


class FakeEngine:
    """Holds adapters and remembers them; answers `x`."""

    info = EngineInfo("fake 1", "float32", 16)

    def __init__(self, on_death: Callable[[], None]) -> None:
        self.alive = True
        self.loaded: list[str] = []
        self._on_death = on_death

    def die(self) -> None:
        self.alive = False
        self._on_death()

    async def load(self, adapter: AdapterRef) -> None:
        await asyncio.sleep(0)
        self.loaded.append(adapter.digest)

    async def unload(self, slot: int) -> None:
        del self.loaded[0]

    async def metrics(self) -> str:
        return ""

    async def stop(self) -> None:
        self.alive = False

    async def score(self, context: Prompt, continuation: Continuation, adapter: AdapterRef | None) -> Scored:
        raise NotImplementedError

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: AdapterRef | None, *, stream: bool
    ) -> AsyncGenerator[Piece]:
        yield Piece("x", 1, "stop", 1)


class World:
    """Engines over fakes: every digest but `missing` is in the store."""

    def __init__(self, folder: Path, **limits: int) -> None:
        (folder / "config.json").touch()
        (folder / "tokenizer_config.json").touch()
        self.folder = folder
        self.missing: set[str] = set()
        self.started: list[str] = []
        self.health: list[bool] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.registry = CollectorRegistry()
        self.meters = Meters(self.registry)
        self.layers: Mapping[str, tuple[int, int]] = {LAYER: (4, 4)}
        chosen = {"max_engines": 2, "max_adapters": 2, "max_rank": 8, "max_requests": 2, **limits}
        self.engines = Engines(
            self.launch,
            self,
            self,
            self.meters,
            limits=Limits(**chosen, adapter_wait_s=0.05),
            on_health=self.hear,
        )

    def materialize(self, digest: str) -> Path:
        if digest in self.missing:
            raise BlobMissing(digest)
        return self.folder

    def read_adapter(self, folder: Path) -> AdapterFacts:
        sides = [TensorFacts(f"base_model.model.{LAYER}.lora_{s}.weight", (4, 4), True, True) for s in "AB"]
        return AdapterFacts([], CONFIG, sides, BASES["a"])

    def read_engine_model(self, folder: Path) -> EngineModel | None:
        return None

    def read_base_layers(self, folder: Path) -> Mapping[str, tuple[int, int]]:
        return self.layers

    async def launch(self, digest: str, folder: Path, on_death: Callable[[], None]) -> FakeEngine:
        self.started.append(digest)
        await self.gate.wait()
        return FakeEngine(on_death)

    async def hear(self, healthy: bool) -> None:
        self.health.append(healthy)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_one_start_for_all_who_wait(world: World) -> None:
    bases = await asyncio.gather(*(world.engines.get(BASES["a"]) for _ in range(3)))
    assert world.started == [BASES["a"]]
    assert len({id(base) for base in bases}) == 1
    assert world.health == [True]


async def test_a_caller_who_leaves_does_not_end_the_start(world: World) -> None:
    world.gate.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.engines.get(BASES["a"]), 0.05)
    world.gate.set()
    assert (await world.engines.get(BASES["a"])).engine.alive
    assert world.started == [BASES["a"]]


async def test_the_idle_engine_makes_room_and_a_busy_one_does_not(world: World) -> None:
    first, second = [await world.engines.get(BASES[letter]) for letter in "ab"]
    async with first.answering(""):
        await world.engines.get(BASES["c"])
        assert (first.engine.alive, second.engine.alive) == (True, False)
        async with (await world.engines.get(BASES["c"])).answering(""):
            with pytest.raises(EngineBusy):
                await world.engines.get(BASES["b"])


async def test_what_is_no_model_is_told_apart(world: World) -> None:
    world.missing.add(BASES["a"])
    with pytest.raises(ModelMissing):
        await world.engines.get(BASES["a"])
    world.layers = {}
    with pytest.raises(ModelRefused):
        await world.engines.get(BASES["b"])
    assert world.started == []


async def test_a_dead_engine_is_told_and_started_again(world: World) -> None:
    base = await world.engines.get(BASES["a"])
    assert isinstance(base.engine, FakeEngine)
    base.engine.die()
    assert world.engines.served() == []
    async with asyncio.timeout(5):
        while len(world.health) < 3:
            await asyncio.sleep(0.01)
    assert world.health == [True, False, True]
    assert len(world.engines.served()) == 1
    await world.engines.stop()


async def test_an_engine_that_dies_again_while_it_is_started_again(world: World) -> None:
    base = await world.engines.get(BASES["a"])
    assert isinstance(base.engine, FakeEngine)
    world.gate.clear()
    base.engine.die()
    await asyncio.sleep(0.01)
    base.engine.die()
    restarts = set(world.engines._restarts)
    assert len(restarts) == 2
    world.gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*restarts)
    assert not world.engines._restarts
    assert len(world.engines.served()) == 1
    await world.engines.stop()


async def test_one_request_too_many_is_refused(world: World) -> None:
    base = await world.engines.get(BASES["a"])
    async with base.answering(""), base.answering(""):
        with pytest.raises(EngineBusy):
            await enter(base)
    async with base.answering(""):
        assert base.requests == 1
    assert base.requests == 0


async def enter(base: ServedBase) -> None:
    async with base.answering(""):
        raise AssertionError("let in")


async def test_an_adapter_is_loaded_once_for_all_who_wait(world: World) -> None:
    base = await world.engines.get(BASES["a"])
    assert isinstance(base.engine, FakeEngine)
    await asyncio.gather(*(base.load("sha256:" + "1" * 64) for _ in range(3)))
    assert base.engine.loaded == ["sha256:" + "1" * 64]
    world.missing.add("sha256:" + "2" * 64)
    with pytest.raises(AdapterMissing):
        await base.load("sha256:" + "2" * 64)


async def test_many_adapters_at_once_share_few_places(world: World) -> None:
    base = await world.engines.get(BASES["a"])

    async def ask(number: int) -> None:
        async with base.answering("sha256:" + str(number) * 64) as adapter:
            assert adapter is not None
            assert base.residents.get(adapter.digest) is not None
            await asyncio.sleep(0.002)

    for pair in ((1, 2), (3, 4), (1, 3), (5, 5), (2, 4)):
        await asyncio.gather(*(ask(number) for number in pair))
        assert len(base.residents) <= 2
    assert all(resident.pins == 0 for resident in base.residents)


NEVER = "sha256:" + "f" * 64
PROMPT, SAMPLING = TextPrompt("q"), check_sampling(temperature=0.0)


class Nobody:
    """There is no deployment but one, of base `a` and an adapter."""

    async def resolve(self, name: str, split_key: str) -> Answerer:
        return Answerer(BASES["a"], "sha256:" + "1" * 64, name)


def labels_of(world: World, name: str) -> set[tuple[str, ...]]:
    """The label values of every series of a metric."""
    return {
        tuple(sample.labels.values())
        for family in world.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


async def test_only_digests_that_are_something_become_labels(world: World) -> None:
    inference = Inference(world.engines, Nobody(), world.meters)
    world.missing |= {NEVER, BASES["c"]}
    adapter = "sha256:" + "1" * 64

    async def stream(who: Answerer) -> None:
        async for _ in inference.stream(who, PROMPT, SAMPLING):
            pass

    async def answer(who: Answerer) -> None:
        await inference.answer(who, PROMPT, SAMPLING)

    async def score(who: Answerer) -> None:
        await inference.score(who, PROMPT, Continuation("x"))

    for ask in (answer, stream, score):
        for who in (Answerer(BASES["c"], ""), Answerer(BASES["c"], NEVER)):
            with pytest.raises(ModelMissing):
                await ask(who)
        with pytest.raises(AdapterMissing):
            await ask(Answerer(BASES["a"], NEVER))
    base = await world.engines.get(BASES["a"])
    async with base.answering(""), base.answering(""):
        for digest in (NEVER, adapter):
            with pytest.raises(EngineBusy):
                await answer(Answerer(BASES["a"], digest))
    await answer(Answerer(BASES["a"], adapter))
    await stream(Answerer(BASES["a"], ""))
    async with base.answering(""), base.answering(""):
        with pytest.raises(EngineBusy):
            await answer(Answerer(BASES["a"], adapter))
    a, one = "a" * 12, "1" * 12
    assert labels_of(world, "anneal_serving_requests_total") == {
        *(("unknown", "unknown", kind, "MODEL_MISSING") for kind in ("answer", "stream", "score")),
        *((a, "unknown", kind, "ADAPTER_MISSING") for kind in ("answer", "stream", "score")),
        (a, "unknown", "answer", "ENGINE_BUSY"),
        (a, one, "answer", "ok"),
        (a, "base", "stream", "ok"),
        (a, one, "answer", "ENGINE_BUSY"),
    }
    assert {labels[:2] for labels in labels_of(world, "anneal_serving_tokens_total")} == {(a, one), (a, "base")}
    assert labels_of(world, "anneal_serving_adapter_load_seconds_count") == {(a, one)}


async def test_a_client_that_leaves_a_stream_is_counted_as_gone(world: World) -> None:
    inference = Inference(world.engines, Nobody(), world.meters)
    who = await inference.resolve(Target(deployment="d"))
    pieces = inference.stream(who, PROMPT, SAMPLING)
    await anext(pieces)
    await pieces.aclose()
    assert labels_of(world, "anneal_serving_requests_total") == {("a" * 12, "1" * 12, "stream", "gone")}
    assert (await world.engines.get(BASES["a"])).requests == 0
