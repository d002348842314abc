"""AdapterService over a real channel, with a real engine that holds two adapters."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from anneal.kit.engine.adapters import MAX_RANK
from anneal.kit.rpc.status import refusal_of
from anneal.v1 import adapter_service_pb2 as pb
from anneal.v1 import inference_service_pb2 as inference_pb
from tests.fixtures.serving import ServingWorld
from tests.fixtures.toy_model import make_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

ABSENT = "sha256:" + "0" * 64


async def refused(call: Awaitable[Any]) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found = refusal_of(caught.value)
    assert found is not None, caught.value
    return found


def load(world: ServingWorld, adapter: str, base: str = "") -> Awaitable[pb.LoadedAdapter]:
    request = pb.LoadAdapterRequest(base_model_digest=base or world.base, adapter_digest=adapter)
    return world.adapter_service.LoadAdapter(request)


def unload(world: ServingWorld, adapter: str) -> Awaitable[Any]:
    request = pb.UnloadAdapterRequest(base_model_digest=world.base, adapter_digest=adapter)
    return world.adapter_service.UnloadAdapter(request)


async def loaded(world: ServingWorld) -> list[str]:
    listed = await world.adapter_service.ListLoadedAdapters(pb.ListLoadedAdaptersRequest())
    return [adapter.adapter_digest for adapter in listed.adapters]


async def generate(world: ServingWorld, adapter: int | None) -> str:
    sampling = inference_pb.SamplingParams(max_tokens=8, temperature=0.0)
    request = inference_pb.GenerateRequest(target=world.target(adapter), prompt="class A:", sampling=sampling)
    return (await world.inference.Generate(request)).text


async def test_the_least_recently_used_makes_room_and_comes_back_the_same(serving_world: ServingWorld) -> None:
    first, second, third = serving_world.adapters
    answer = await generate(serving_world, 0)
    await load(serving_world, second)
    await load(serving_world, first)  # already here: only counts as use
    assert await loaded(serving_world) == [first, second]
    await load(serving_world, third)
    assert await loaded(serving_world) == [third, first]
    await generate(serving_world, 1)
    assert await loaded(serving_world) == [second, third]
    assert await generate(serving_world, 0) == answer
    metrics = serving_world.host.runtime.metrics.registry
    base = serving_world.base[7:19]

    def value(name: str, **labels: str) -> float | None:
        return metrics.get_sample_value(f"anneal_serving_{name}", {"base": base, **labels})

    evicted = [value("adapter_evictions_total", adapter=adapter[7:19]) for adapter in (first, second, third)]
    assert sum(times or 0 for times in evicted) >= 3
    assert value("adapters_resident") == value("adapter_slots") == 2
    assert [value("adapter_resident", adapter=adapter[7:19]) for adapter in (first, second, third)] == [1, 1, None]
    assert value("requests_in_flight") == 0
    assert value("adapter_load_failures_total", reason="ENGINE_DOWN") is not None


async def test_loading_tells_how_long_it_took_and_pages_work(serving_world: ServingWorld) -> None:
    first, second, _ = serving_world.adapters
    one = await load(serving_world, first)
    await load(serving_world, second)
    assert (one.adapter_digest, one.base_model_digest) == (first, serving_world.base)
    assert one.load_seconds > 0
    assert one.load_time.seconds > 0
    page = await serving_world.adapter_service.ListLoadedAdapters(pb.ListLoadedAdaptersRequest(page_size=1))
    assert [adapter.adapter_digest for adapter in page.adapters] == [second]
    rest = await serving_world.adapter_service.ListLoadedAdapters(
        pb.ListLoadedAdaptersRequest(page_size=1, page_token=page.next_page_token)
    )
    assert [adapter.adapter_digest for adapter in rest.adapters] == [first]
    assert not rest.next_page_token
    wrong = pb.ListLoadedAdaptersRequest(page_token="nonsense")
    assert (await refused(serving_world.adapter_service.ListLoadedAdapters(wrong))).violations[0][0] == "page_token"


async def test_unloading_twice_is_refused(serving_world: ServingWorld) -> None:
    first = serving_world.adapters[0]
    await load(serving_world, first)
    await unload(serving_world, first)
    assert first not in await loaded(serving_world)
    assert (await refused(unload(serving_world, first))).reason == "ADAPTER_NOT_LOADED"
    elsewhere = pb.UnloadAdapterRequest(base_model_digest=ABSENT, adapter_digest=first)
    refusal = await refused(serving_world.adapter_service.UnloadAdapter(elsewhere))
    assert refusal.reason == "ADAPTER_NOT_LOADED"


async def test_who_answers_is_neither_unloaded_nor_evicted(serving_world: ServingWorld) -> None:
    first, second, third = serving_world.adapters
    sampling = inference_pb.SamplingParams(max_tokens=1000, temperature=1.0)

    def start(adapter: int) -> Any:
        request = inference_pb.GenerateRequest(target=serving_world.target(adapter), prompt="x", sampling=sampling)
        return serving_world.inference.StreamGenerate(request)

    streams = [start(0), start(1)]
    try:
        for stream in streams:
            await stream.read()
        refusal = await refused(unload(serving_world, first))
        assert (refusal.kind.name, refusal.reason) == ("NOT_YET", "ADAPTER_IN_USE")
        refusal = await refused(load(serving_world, third))
        assert (refusal.kind.name, refusal.reason) == ("BUSY", "ENGINE_BUSY")
        assert refusal.retry_after_s > 0
        assert set(await loaded(serving_world)) == {first, second}
    finally:
        for stream in streams:
            stream.cancel()
    for _ in range(100):
        listed = await serving_world.adapter_service.ListLoadedAdapters(pb.ListLoadedAdaptersRequest())
        if not any(adapter.active_requests for adapter in listed.adapters):
            break
        await asyncio.sleep(0.05)
    await load(serving_world, third)


def with_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def with_nan(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, path)


def without_effect(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {name: np.zeros_like(t) if "lora_B" in name else t for name, t in load_file(path).items()}
    save_file(tensors, path)


def on_other_targets(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name.replace("q_proj", "query"): tensor for name, tensor in load_file(path).items()}, path)


def of_other_shape(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({n: t[:, :-1] if "lora_A" in n and "down" in n else t for n, t in load_file(path).items()}, path)


def of_another_base(folder: Path) -> None:
    edit_config(folder, base_model_name_or_path=ABSENT)


def of_no_base(folder: Path) -> None:
    edit_config(folder, base_model_name_or_path="some/model")


def cut_off(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (with_pickle, "pickle"),
        (with_nan, "not_finite"),
        (without_effect, "no_effect"),
        (on_other_targets, "targets"),
        (of_other_shape, "shape"),
        (of_another_base, "base"),
        (of_no_base, "base_unknown"),
        (cut_off, "no_safetensors"),
    ],
)
async def test_a_bad_adapter_never_reaches_the_engine(
    serving_world: ServingWorld, tmp_path: Path, spoil: Callable[[Path], None], cause: str
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(serving_world.files.adapters[0], folder)
    spoil(folder)
    digest = await asyncio.to_thread(serving_world.host.store.put_tree, folder)
    refusal = await refused(load(serving_world, digest))
    assert (refusal.kind.name, refusal.reason, refusal.facts["cause"]) == ("NOT_YET", "ADAPTER_REFUSED", cause)
    assert digest not in await loaded(serving_world)
    target = inference_pb.InferenceTarget(base_model_digest=serving_world.base, adapter_digest=digest)
    asked = serving_world.inference.Generate(inference_pb.GenerateRequest(target=target, prompt="x"))
    assert (await refused(asked)).reason == "ADAPTER_REFUSED"
    assert await generate(serving_world, None)  # and the engine lives


async def test_a_rank_without_room_is_refused(serving_world: ServingWorld, tmp_path: Path) -> None:
    base, digest = serving_world.files.base, serving_world.base
    folder = await asyncio.to_thread(make_adapter, base, tmp_path / "wide", base_digest=digest, rank=MAX_RANK + 1)
    wide = await asyncio.to_thread(serving_world.host.store.put_tree, folder)
    assert (await refused(load(serving_world, wide))).facts["cause"] == "rank"


async def test_what_is_not_in_the_store_is_missing(serving_world: ServingWorld) -> None:
    assert (await refused(load(serving_world, ABSENT))).reason == "ADAPTER_MISSING"
    assert (await refused(load(serving_world, serving_world.adapters[0], ABSENT))).reason == "MODEL_MISSING"
    assert (await refused(load(serving_world, "latest"))).violations[0][0] == "adapter_digest"
    assert (await refused(load(serving_world, ABSENT, "latest"))).violations[0][0] == "base_model_digest"
