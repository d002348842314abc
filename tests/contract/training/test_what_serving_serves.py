"""Over the wire: what serving would refuse is refused by plan and order, and base models are given what they lack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from anneal.v1 import dataset_pb2, model_pb2
from anneal.v1 import training_service_pb2 as pb
from tests.contract.training.test_training_service import failed, plan_of, refused
from tests.fixtures.base_models import write_model
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import PROJECT, House, order

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]


def importing(model_id: str, folder: Path, chat: pb.ModelChat | None = None, **more: Any) -> pb.ImportModelRequest:
    return pb.ImportModelRequest(parent=PROJECT, model_id=model_id, folder=str(folder), chat=chat, **more)


@pytest.mark.parametrize(
    ("lora", "field"),
    [
        (pb.LoraSpec(rank=64), "spec.lora.rank"),
        (pb.LoraSpec(rank=4, target_modules=["q_proj", "lm_head"]), "spec.lora.target_modules"),
        (pb.LoraSpec(rank=4, alpha=50_000), "spec.lora.alpha"),
    ],
)
async def test_an_adapter_that_serving_would_refuse_is_refused_before_it_is_trained(
    house: House, base: model_pb2.Model, rows: dataset_pb2.DatasetVersion, lora: pb.LoraSpec, field: str
) -> None:
    request = order(base.name, rows.name)
    request.spec.lora.CopyFrom(lora)
    assert (await refused(house.training.PlanTraining(plan_of(request))))[2] == [field]
    for validate_only in (True, False):
        request.validate_only = validate_only
        assert (await refused(house.training.CreateTrainingJob(request)))[2] == [field]


async def test_the_plan_counts_samples_and_holds_rows_against_the_tokenizer(
    house: House, base: model_pb2.Model, rows: dataset_pb2.DatasetVersion
) -> None:
    plan = await house.training.PlanTraining(plan_of(order(base.name, rows.name)))
    assert plan.sample_count >= plan.row_count > 0
    assert 0.5 < plan.reached_share < 1
    assert [one.script for one in plan.tokenizer_fit.languages] == ["latin"]
    assert plan.tokenizer_fit.languages[0].row_count == plan.row_count
    assert 0 < plan.tokenizer_fit.languages[0].tokens_per_character < 1
    assert plan.tokenizer_fit.unknown_share == 0


@pytest.mark.parametrize(("name", "text"), [("t5", "encoder-decoder"), ("mistral3", "AutoModelForCausalLM")])
async def test_a_base_that_serving_cannot_serve_is_refused_at_import(house: House, name: str, text: str) -> None:
    folder = write_model(house.models / name, name)
    reason, message = await failed(house, await house.training.ImportModel(importing(name, folder)))
    assert reason == "BASE_MODEL_UNUSABLE"
    assert text in message


async def test_a_model_without_a_template_takes_conversations_once_it_has_one(
    house: House, rows: dataset_pb2.DatasetVersion, base: model_pb2.Model
) -> None:
    folder = write_base(house.models / "no-template")
    (folder / "chat_template.jinja").unlink()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base\n")
    bare = await house.model(await house.training.ImportModel(importing("no-template", folder)))
    assert (bare.has_chat_template, bare.chat_template_digest, bare.license) == (False, "", "apache-2.0")
    assert bare.storage_dtype == "float32"
    assert bare.card_digest.startswith("sha256:")
    request = order(bare.name, rows.name)
    request.validate_only = True
    assert (await refused(house.training.CreateTrainingJob(request)))[1] == "CHAT_TEMPLATE_MISSING"
    assert (await refused(house.training.PlanTraining(plan_of(request))))[1] == "CHAT_TEMPLATE_MISSING"
    chat = pb.ModelChat(template_name="chatml", template_kwargs=json.dumps({"depth": 2}))
    given = await house.model(await house.training.ImportModel(importing("with-template", folder, chat)))
    assert given.has_chat_template
    assert given.digest != bare.digest
    assert json.loads(given.template_kwargs) == {"depth": 2}
    assert (await house.training.PlanTraining(plan_of(order(given.name, rows.name)))).row_count > 0


async def test_special_tokens_make_another_model_and_a_note_in_the_plan(
    house: House, rows: dataset_pb2.DatasetVersion
) -> None:
    folder = write_base(house.models / "for-tokens")
    chat = pb.ModelChat(special_tokens=["<|reply|>"])
    made = await house.model(await house.training.ImportModel(importing("tokens", folder, chat)))
    assert list(made.special_tokens) == ["<|reply|>"]
    request = plan_of(order(made.name, rows.name))
    assert any("<|reply|>" in warning for warning in (await house.training.PlanTraining(request)).warnings)
    request.spec.method = "full"
    assert not any("<|reply|>" in warning for warning in (await house.training.PlanTraining(request)).warnings)


@pytest.mark.parametrize(
    ("chat", "field"),
    [
        (pb.ModelChat(template_name="vicunja"), "chat.template_name"),
        (pb.ModelChat(template_text="{% if %}"), "chat.template_text"),
        (pb.ModelChat(template_text=""), "chat.template_text"),
        (pb.ModelChat(template_kwargs="[1]"), "chat.template_kwargs"),
        (pb.ModelChat(template_kwargs="{"), "chat.template_kwargs"),
        (pb.ModelChat(special_tokens=[" "]), "chat.special_tokens"),
        (pb.ModelChat(special_tokens=["<a>"] * 300), "chat.special_tokens"),
    ],
)
async def test_what_cannot_be_given_is_named_before_a_job_starts(
    house: House, base: model_pb2.Model, chat: pb.ModelChat, field: str
) -> None:
    request = importing("impossible", house.models / "base", chat, validate_only=True)
    code, _, fields = await refused(house.training.ImportModel(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT.name
    assert fields == [field]


async def test_a_template_of_another_family_fails_the_import_and_names_its_token(
    house: House, base: model_pb2.Model
) -> None:
    request = importing("other-family", house.models / "base", pb.ModelChat(template_name="gemma"))
    reason, message = await failed(house, await house.training.ImportModel(request))
    assert reason == "BASE_MODEL_UNUSABLE"
    assert "<end_of_turn>" in message
