from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from google.longrunning import operations_pb2
from safetensors.torch import load_file, save_file

from anneal.v1 import dataset_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as registry_pb
from anneal.v1 import training_service_pb2 as pb
from tests.fixtures.tiny_model import conversations, write_base
from tests.fixtures.training_house import PROJECT, House, details, order, refusal

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]
MISSING = f"{PROJECT}/datasets/rows/versions/000000000000"


async def refused(call: Any) -> tuple[str, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


def plan_of(request: pb.CreateTrainingJobRequest) -> pb.PlanTrainingRequest:
    return pb.PlanTrainingRequest(
        parent=request.parent,
        base_model=request.base_model,
        dataset_versions=request.dataset_versions,
        spec=request.spec,
    )


# -- ImportModel -----------------------------------------------------------------------------------------------------


async def test_a_folder_becomes_a_model(house: House, base: model_pb2.Model) -> None:
    assert base.name == f"{PROJECT}/models/base"
    assert (base.architecture, base.context_length, base.origin) == ("LlamaForCausalLM", 128, "base")
    assert base.parameter_count > 50_000
    assert base.chat_template_digest.startswith("sha256:")
    held = {path.name for path in house.host.store.materialize(base.digest).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= held


async def test_the_same_files_under_the_same_id_are_the_same_model(house: House, base: model_pb2.Model) -> None:
    assert await house.import_base(house.models / "base") == base


async def failed(house: House, operation: Any) -> tuple[str, str]:
    done = await house.finished(operation)
    assert done.HasField("error")
    return details(done.error)[0], done.error.message


async def test_other_files_under_the_same_id_are_refused(house: House, base: model_pb2.Model) -> None:
    folder = write_base(house.models / "other", seed=1)
    request = pb.ImportModelRequest(parent=PROJECT, model_id="base", folder=str(folder))
    reason, message = await failed(house, await house.training.ImportModel(request))
    assert reason == "MODEL_EXISTS"
    assert "choose another id" in message


async def test_weights_that_are_not_finite_are_refused(house: House) -> None:
    path = write_base(house.models / "nan") / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, path, metadata={"format": "pt"})
    request = pb.ImportModelRequest(parent=PROJECT, model_id="nan", folder=str(path.parent))
    reason, message = await failed(house, await house.training.ImportModel(request))
    assert (reason, "not finite" in message) == ("BASE_MODEL_UNUSABLE", True)
    assert (await refused(house.registry.GetModel(registry_pb.GetModelRequest(name=f"{PROJECT}/models/nan"))))[1] == (
        "MODEL_MISSING"
    )


async def test_a_pickle_is_never_read(house: House) -> None:
    folder = write_base(house.models / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    request = pb.ImportModelRequest(parent=PROJECT, model_id="pickled", folder=str(folder))
    reason, message = await failed(house, await house.training.ImportModel(request))
    assert (reason, "pytorch_model.bin (pickled, never loaded)" in message) == ("BASE_MODEL_UNUSABLE", True)


async def test_what_cannot_be_imported_is_refused_at_once(house: House, tmp_path: Path) -> None:
    def ask(**fields: Any) -> Any:
        return house.training.ImportModel(pb.ImportModelRequest(**{"parent": PROJECT, "model_id": "m", **fields}))

    assert (await refused(ask(folder=str(tmp_path))))[:2] == ("PERMISSION_DENIED", "FOLDER_NOT_ALLOWED")
    assert await refused(ask(folder=str(house.models / "missing"))) == (
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        ["folder"],
    )
    assert (await refused(ask(hub_id="no slash")))[2] == ["hub_id"]
    assert (await refused(ask()))[2] == ["from"]
    assert (await refused(ask(model_id="No!", hub_id="a/b")))[2] == ["model_id"]
    assert (await refused(ask(parent="x", hub_id="a/b")))[2] == ["parent"]


async def test_an_import_sent_twice_is_one_job(house: House, base: model_pb2.Model) -> None:
    request = pb.ImportModelRequest(
        parent=PROJECT, model_id="base", folder=str(house.models / "base"), request_id=str(uuid.uuid4())
    )
    first = await house.training.ImportModel(request)
    assert (await house.training.ImportModel(request)).name == first.name
    request.model_id = "else"
    assert (await refused(house.training.ImportModel(request)))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_an_import_that_is_only_checked_starts_nothing(
    house: House, base: model_pb2.Model, tmp_path: Path
) -> None:
    async def imports() -> int:
        query = operations_pb2.ListOperationsRequest(name=PROJECT, filter="kind=import_model")
        return len((await house.operations.ListOperations(query)).operations)

    before = await imports()
    sources: tuple[dict[str, Any], ...] = ({"folder": str(house.models / "base")}, {"hub_id": "owner/name"})
    for source in sources:
        request = pb.ImportModelRequest(parent=PROJECT, model_id="quiet", validate_only=True, **source)
        answer = await house.training.ImportModel(request)
        assert (answer.done, answer.name) == (True, "")
    wrong = pb.ImportModelRequest(parent=PROJECT, model_id="quiet", validate_only=True, folder=str(tmp_path))
    assert (await refused(house.training.ImportModel(wrong)))[1] == "FOLDER_NOT_ALLOWED"
    assert await imports() == before


# -- PlanTraining ----------------------------------------------------------------------------------------------------


async def test_a_plan_counts_the_real_rows(
    house: House, base: model_pb2.Model, rows: dataset_pb2.DatasetVersion
) -> None:
    plan = await house.training.PlanTraining(plan_of(order(base.name, rows.name)), timeout=120)
    assert plan.row_count == 40
    assert 0 < plan.loss_tokens_per_epoch < plan.tokens_per_epoch
    assert plan.mask_coverage == pytest.approx(plan.loss_tokens_per_epoch / plan.tokens_per_epoch)
    assert 0.8 < plan.packing_efficiency <= 1
    assert plan.step_count > 0
    assert 0 < plan.trainable_parameter_count < plan.parameter_count
    assert plan.memory_bytes > 4 * plan.parameter_count
    assert plan.fits
    assert plan.duration_seconds > 0
    assert plan.sample.endswith("<|im_end|>⟧")
    assert plan.sample.count("⟦") == 1


async def test_a_plan_warns_and_counts_what_is_too_long(house: House, base: model_pb2.Model) -> None:
    long = [[{"role": "user", "content": "f" * 200}, {"role": "assistant", "content": "x"}]]
    version = await house.dataset({"train": [*conversations(3), *long]}, "long")
    request = plan_of(order(base.name, version.name, too_long="drop", patience=2))
    plan = await house.training.PlanTraining(request, timeout=120)
    assert (plan.row_count, plan.too_long_count) == (3, 1)
    said = " ".join(plan.warnings)
    assert "no validation split" in said
    assert "too long" in said
    assert "steps will be taken" in said
    request.spec.too_long = "refuse"
    assert (await refused(house.training.PlanTraining(request, timeout=120)))[:2] == (
        "FAILED_PRECONDITION",
        "SAMPLE_TOO_LONG",
    )


async def test_a_plan_refuses_rows_that_teach_nothing(house: House, base: model_pb2.Model) -> None:
    silent = await house.dataset({"train": [[{"role": "user", "content": "hello"}]]}, "silent")
    request = plan_of(order(base.name, silent.name))
    assert (await refused(house.training.PlanTraining(request, timeout=120)))[1] == "NO_ASSISTANT_TURN"
    empty = await house.dataset({"test": conversations(2)}, "empty")
    request = plan_of(order(base.name, empty.name))
    assert (await refused(house.training.PlanTraining(request, timeout=120)))[1] == "DATASET_EMPTY"


async def test_documents_are_planned_as_raw_text(house: House, base: model_pb2.Model) -> None:
    version = await house.dataset({"train": ["The function f1 returns the value. " * 20]}, "texts", "document")
    request = plan_of(order(base.name, version.name, objective=pb.OBJECTIVE_TEXT, method="full"))
    plan = await house.training.PlanTraining(request, timeout=120)
    assert plan.trainable_parameter_count == plan.parameter_count
    assert plan.mask_coverage > 0.9
    request.spec.objective = pb.OBJECTIVE_INSTRUCTION
    assert (await refused(house.training.PlanTraining(request, timeout=120)))[2] == ["dataset_versions[0]"]


# -- CreateTrainingJob -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["PlanTraining", "CreateTrainingJob"])
async def test_what_an_order_names_must_exist(
    house: House, base: model_pb2.Model, rows: dataset_pb2.DatasetVersion, ask: str
) -> None:
    def send(request: pb.CreateTrainingJobRequest) -> Any:
        return getattr(house.training, ask)(plan_of(request) if ask == "PlanTraining" else request, timeout=120)

    assert (await refused(send(order(f"{PROJECT}/models/none", rows.name))))[:2] == ("NOT_FOUND", "MODEL_MISSING")
    assert (await refused(send(order(base.name, MISSING))))[:2] == ("NOT_FOUND", "DATASET_VERSION_MISSING")
    for fields, violated in (
        ({"base_model": "x"}, "base_model"),
        ({"base_model": "projects/q/models/base"}, "base_model"),
        ({"parent": "x"}, "parent"),
    ):
        request = order(base.name, rows.name)
        for field, value in fields.items():
            setattr(request, field, value)
        assert (await refused(send(request)))[2] == [violated]
    assert (await refused(send(order(base.name, rows.name, rows.name))))[2] == ["dataset_versions[1]"]
    assert (await refused(send(order(base.name, rows.name, max_length=4096))))[2] == ["spec.max_length"]
    assert (await refused(send(order(base.name, rows.name, method="magic"))))[2] == ["spec.method"]
    assert (await refused(send(order(base.name, rows.name, workers=99))))[2] == ["spec.workers"]


async def test_an_order_for_training_is_checked_before_it_is_accepted(
    house: House, base: model_pb2.Model, rows: dataset_pb2.DatasetVersion
) -> None:
    send = house.training.CreateTrainingJob
    assert (await refused(send(order(base.name, rows.name, output_id="Bot!"))))[2] == ["output_id"]
    taken = order(base.name, rows.name, output_id="base", method="full")
    assert (await refused(send(taken)))[:2] == ("ALREADY_EXISTS", "MODEL_EXISTS")
    only_test = await house.dataset({"test": conversations(2)}, "only-test")
    assert (await refused(send(order(base.name, only_test.name))))[2] == ["dataset_versions"]


async def test_validate_only_starts_nothing(
    house: House, base: model_pb2.Model, rows: dataset_pb2.DatasetVersion
) -> None:
    request = order(base.name, f"{PROJECT}/datasets/rows/versions/latest", output_id="quiet")
    request.validate_only = True
    answer = await house.training.CreateTrainingJob(request)
    assert (answer.done, answer.name) == (True, "")
    listed = await house.operations.ListOperations(
        operations_pb2.ListOperationsRequest(name=PROJECT, filter="kind=train")
    )
    assert len(listed.operations) == 0
