from __future__ import annotations

import math

import pytest

from anneal.v1 import adapter_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as pb
from tests.contract.registry.world import ABSENT, PROJECT, World, new_id, reason, refused, violation

pytestmark = pytest.mark.asyncio(loop_scope="session")

BOT = f"{PROJECT}/adapters/bot"


def registering(world: World, model_id: str = "tiny", **more: object) -> pb.CreateModelRequest:
    model = model_pb2.Model(name="-", digest=world.store.put_bytes(b"weights"), context_length=512)
    return pb.CreateModelRequest(parent=PROJECT, model_id=model_id, model=model, **more)  # type: ignore[arg-type]


async def test_a_model_is_registered_and_read(world: World) -> None:
    made = await world.stub.CreateModel(registering(world))
    assert (made.name, made.context_length) == (f"{PROJECT}/models/tiny", 512)
    assert made.etag
    assert await world.stub.GetModel(pb.GetModelRequest(name=made.name)) == made
    assert (await world.stub.ListModels(pb.ListModelsRequest(parent=PROJECT))).models[0] == made


async def test_a_models_refusals(world: World) -> None:
    request = registering(world, request_id=new_id())
    await world.stub.CreateModel(request)
    request.model.context_length = 1
    assert await reason(world.stub.CreateModel(request)) == ("EXISTS", "REQUEST_ID_REUSED")
    assert await reason(world.stub.CreateModel(registering(world))) == ("EXISTS", "MODEL_EXISTS")
    missing = pb.GetModelRequest(name=f"{PROJECT}/models/none")
    assert await reason(world.stub.GetModel(missing)) == ("MISSING", "MODEL_MISSING")
    assert await violation(world.stub.CreateModel(registering(world, "-"))) == "model_id"
    request = registering(world, "other")
    request.model.digest = "md5:1"
    assert await violation(world.stub.CreateModel(request)) == "model.digest"
    request.model.digest = ABSENT
    assert await reason(world.stub.CreateModel(request)) == ("NOT_YET", "FILES_MISSING")
    request = registering(world, "other")
    request.model.parameter_count = -1
    assert await violation(world.stub.CreateModel(request)) == "model.parameter_count"
    request = registering(world, "other")
    request.model.dataset_versions.append(f"{PROJECT}/datasets/d/versions/{'0' * 12}")
    assert await reason(world.stub.CreateModel(request)) == ("MISSING", "DATASET_VERSION_MISSING")


async def test_a_model_twice_by_one_request_and_never_by_a_dry_run(world: World) -> None:
    dry = registering(world, validate_only=True)
    await world.stub.CreateModel(dry)
    assert not (await world.stub.ListModels(pb.ListModelsRequest(parent=PROJECT))).models
    request = registering(world, request_id=new_id())
    assert await world.stub.CreateModel(request) == await world.stub.CreateModel(request)


async def test_models_are_paged_newest_first(world: World) -> None:
    for i in range(3):
        await world.stub.CreateModel(registering(world, f"m{i}"))
    first = await world.stub.ListModels(pb.ListModelsRequest(parent=PROJECT, page_size=2))
    rest = pb.ListModelsRequest(parent=PROJECT, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListModels(rest)
    assert [m.name[-2:] for m in [*first.models, *second.models]] == ["m2", "m1", "m0"]


async def test_an_adapter_is_founded_and_read(world: World) -> None:
    request = pb.CreateAdapterRequest(
        parent=PROJECT, adapter_id="bot", adapter=adapter_pb2.Adapter(name="-", description="answers")
    )
    made = await world.stub.CreateAdapter(request)
    assert (made.name, made.description, made.latest_version) == (BOT, "answers", "")
    assert await world.stub.GetAdapter(pb.GetAdapterRequest(name=BOT)) == made
    assert await reason(world.stub.CreateAdapter(request)) == ("EXISTS", "ADAPTER_EXISTS")
    missing = pb.GetAdapterRequest(name=f"{PROJECT}/adapters/none")
    assert await reason(world.stub.GetAdapter(missing)) == ("MISSING", "ADAPTER_MISSING")
    request.adapter_id = "second"
    await world.stub.CreateAdapter(request)
    first = await world.stub.ListAdapters(pb.ListAdaptersRequest(parent=PROJECT, page_size=1))
    rest = pb.ListAdaptersRequest(parent=PROJECT, page_size=1, page_token=first.next_page_token)
    assert [first.adapters[0].name, (await world.stub.ListAdapters(rest)).adapters[0].name] == [
        f"{PROJECT}/adapters/second",
        BOT,
    ]


async def test_an_adapter_version_is_published_and_read(world: World) -> None:
    data, model = await world.dataset_version(), await world.model()
    given = world.new_adapter(model, data, validation_loss=0.0)
    made = await world.publish(given)
    assert made.name == f"{BOT}/versions/{given.digest[7:19]}"
    assert made.HasField("validation_loss")
    assert not made.HasField("train_loss")
    assert made.parity == given.parity
    assert await world.stub.GetAdapterVersion(pb.GetAdapterVersionRequest(name=made.name)) == made
    latest = pb.GetAdapterVersionRequest(name=f"{BOT}/versions/latest")
    assert await world.stub.GetAdapterVersion(latest) == made
    assert (await world.stub.GetAdapter(pb.GetAdapterRequest(name=BOT))).latest_version == made.name
    assert await world.publish(given) == made


@pytest.mark.parametrize(
    "fault",
    [
        {"passed": False},
        {"token_ids_equal": False},
        {"max_logprob_difference": 2e-5},
        {"max_logprob_difference": math.nan},
        {"sample_count": 0},
    ],
)
async def test_without_parity_nothing_is_published(world: World, fault: dict[str, float]) -> None:
    given = world.new_adapter(await world.model(), await world.dataset_version())
    for field, value in fault.items():
        setattr(given.parity, field, value)
    assert await reason(world.publish(given)) == ("NOT_YET", "PARITY_MISSING")
    missing = pb.GetAdapterRequest(name=BOT)
    assert await reason(world.stub.GetAdapter(missing)) == ("MISSING", "ADAPTER_MISSING")


async def test_an_adapter_versions_refusals(world: World) -> None:
    data, model = await world.dataset_version(), await world.model()
    mismatch = ("NOT_YET", "BASE_MODEL_MISMATCH")
    assert await reason(world.publish(world.new_adapter(model, data, base_model_digest=ABSENT))) == mismatch
    nobody = world.new_adapter(model, data, base_model=f"{PROJECT}/models/none")
    assert await reason(world.publish(nobody)) == mismatch
    assert await reason(world.publish(world.new_adapter(model, data, digest=ABSENT))) == ("NOT_YET", "FILES_MISSING")
    gone = world.new_adapter(model, data, dataset_versions=[f"{PROJECT}/datasets/d/versions/{'0' * 12}"])
    assert await reason(world.publish(gone)) == ("MISSING", "DATASET_VERSION_MISSING")
    shapeless = await refused(world.publish(world.new_adapter(model, data, rank=0, alpha=-1.0)))
    assert [path for path, _ in shapeless.violations] == ["adapter_version.rank", "adapter_version.alpha"]  # type: ignore[attr-defined]
    assert await violation(world.publish(world.new_adapter(model, data), adapter="Bad")) == "parent"
    absent = pb.GetAdapterVersionRequest(name=f"{BOT}/versions/{'0' * 12}")
    assert await reason(world.stub.GetAdapterVersion(absent)) == ("MISSING", "ADAPTER_VERSION_MISSING")
    assert await violation(world.stub.GetAdapterVersion(pb.GetAdapterVersionRequest(name=BOT))) == "name"


async def test_adapter_versions_are_paged_and_answered_twice_the_same(world: World) -> None:
    data, model = await world.dataset_version(), await world.model()
    made = [await world.publish(world.new_adapter(model, data, f"w{i}")) for i in range(2)]
    request = pb.CreateAdapterVersionRequest(
        parent=BOT, adapter_version=world.new_adapter(model, data, "w2"), request_id=new_id()
    )
    made.append(await world.stub.CreateAdapterVersion(request))
    assert await world.stub.CreateAdapterVersion(request) == made[-1]
    request.adapter_version.rank = 4
    assert await reason(world.stub.CreateAdapterVersion(request)) == ("EXISTS", "REQUEST_ID_REUSED")
    dry = pb.CreateAdapterVersionRequest(
        parent=BOT, adapter_version=world.new_adapter(model, data, "w3"), validate_only=True
    )
    await world.stub.CreateAdapterVersion(dry)
    first = await world.stub.ListAdapterVersions(pb.ListAdapterVersionsRequest(parent=BOT, page_size=2))
    rest = pb.ListAdapterVersionsRequest(parent=BOT, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListAdapterVersions(rest)
    assert [*first.adapter_versions, *second.adapter_versions] == made[::-1]
