from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2

from anneal.v1 import dataset_pb2
from anneal.v1 import synthesis_service_pb2 as pb
from tests.fixtures.openai_server import completion, failure, openai_server
from tests.fixtures.synthesis_house import TASK, House, make_recipe, order, refusal, running
from tests.fixtures.synthesis_house import TEACHER as TEACHER_OPTIONS
from tests.unit.synthesis import documents as pages

pytestmark = pytest.mark.asyncio(loop_scope="package")

TEACHER: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "model": "teacher-1"}


async def refused(call: Any) -> tuple[str, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def test_rows_come_with_lineage_reasons_and_a_balance(house: House, source: str) -> None:
    task = {**TASK, "label": "{{ type }}", "max_answer_characters": 8}
    version = await house.version(await house.synthesis.SynthesizeDataset(order(source, params={"tasks": [task]})))
    assert version.kind == dataset_pb2.DATASET_KIND_CONVERSATION
    assert version.name.startswith("projects/p/datasets/rows/versions/")
    assert list(version.parents) == [source]
    assert (version.input_row_count, version.row_count) == (4, 3)
    assert [(one.step, one.reason, one.row_count) for one in version.removals] == [("template", "answer_too_long", 1)]
    rows = house.rows(version)
    assert {row["messages"][1]["content"] for row in rows} == {"function", "class", "data"}
    assert {row["source"] for row in rows} == {"library/demo.html"}
    assert json.loads(rows[0]["origin"])["task"] == "kind"
    (removed,) = house.rows(version, "removed")
    assert json.loads(removed["removed_numbers"]) == {"characters": 9, "max_characters": 8}
    assert json.loads(version.recipe_json)["recipe"]["generator"] == "template"


async def test_the_same_order_makes_the_same_version(house: House, source: str) -> None:
    first = await house.version(await house.synthesis.SynthesizeDataset(order(source)))
    second = await house.version(await house.synthesis.SynthesizeDataset(order(source)))
    assert first.digest == second.digest
    assert first.name == second.name


async def test_a_request_id_gives_the_same_job_and_refuses_other_content(house: House, source: str) -> None:
    request = order(source)
    request.request_id = str(uuid.uuid4())
    first = await house.synthesis.SynthesizeDataset(request)
    assert (await house.synthesis.SynthesizeDataset(request)).name == first.name
    request.dataset_id = "other"
    assert (await refused(house.synthesis.SynthesizeDataset(request)))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_validate_only_starts_nothing(house: House, source: str) -> None:
    request = order(source)
    request.parent = "projects/quiet"
    request.validate_only = True
    answer = await house.synthesis.SynthesizeDataset(request)
    assert (answer.done, answer.name) == (True, "")
    listed = await house.operations.ListOperations(operations_pb2.ListOperationsRequest(name="projects/quiet"))
    assert len(listed.operations) == 0


async def test_latest_names_the_newest_version(house: House, source: str) -> None:
    latest = source.rpartition("/")[0] + "/latest"
    version = await house.version(await house.synthesis.SynthesizeDataset(order(latest)))
    assert list(version.parents) == [source]


async def test_max_rows_ends_the_work(house: House, source: str) -> None:
    version = await house.version(await house.synthesis.SynthesizeDataset(order(source, max_rows=2)))
    assert version.row_count == 2


async def test_rows_that_exist_already_are_not_made_again(house: House, source: str) -> None:
    first = await house.version(await house.synthesis.SynthesizeDataset(order(source, max_rows=2)))
    novelty = pb.Novelty(against=[first.name])
    second = await house.version(await house.synthesis.SynthesizeDataset(order(source, novelty=novelty)))
    assert second.row_count == 2
    assert {row["removed_duplicate_of"] for row in house.rows(second, "removed")} == {
        row["id"] for row in house.rows(first)
    }
    assert set(second.parents) == {source, first.name}


@pytest.mark.parametrize(
    ("recipe", "fields"),
    [
        ({"generator": "telepathy"}, ["recipe.generator"]),
        ({"params": {}}, ["recipe.params.tasks"]),
        ({"params": {"tasks": [{**TASK, "prompts": ["{{ name"]}]}}, ["recipe.params.tasks[0].prompts[0]"]),
        (
            {"params": {"tasks": [{**TASK, "where": {"typ": ["x"]}, "color": 1}], "x": 1}},
            ["recipe.params.tasks[0].where.typ", "recipe.params.tasks[0].color", "recipe.params.x"],
        ),
        ({"teacher": pb.Teacher(**TEACHER), "max_total_tokens": 9}, ["recipe.teacher"]),
        ({"generator": "backtranslate", "params": {}}, ["recipe.teacher"]),
        (
            {"generator": "backtranslate", "params": {}, "teacher": pb.Teacher(**TEACHER)},
            ["recipe.max_total_tokens"],
        ),
        ({"generator": "backtranslate", "params": {}, "teacher": pb.Teacher(model="m")}, ["recipe.teacher.base_url"]),
        ({"max_rows": -1}, ["recipe.max_rows"]),
        ({"min_grounding": 1.01}, ["recipe.min_grounding"]),
        (
            {"novelty": pb.Novelty(max_overlap=-0.1, ngram_words=51)},
            ["recipe.novelty.max_overlap", "recipe.novelty.ngram_words"],
        ),
        ({"novelty": pb.Novelty(against=["rows"])}, ["recipe.novelty.against[0]"]),
    ],
)
async def test_every_wrong_field_is_named(house: House, source: str, recipe: dict[str, Any], fields: list[str]) -> None:
    code, reason, found = await refused(house.synthesis.SynthesizeDataset(order(source, **recipe)))
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert found == fields


@pytest.mark.parametrize(
    ("teacher", "field"),
    [
        ({"base_url": "ftp://127.0.0.1/v1"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://[::1"}, "base_url"),
        ({"base_url": "http://169.254.169.254/latest"}, "base_url"),
        ({"base_url": "http://evil.example/?x=127.0.0.1"}, "base_url"),
        ({"api_key_env": "AWS_SECRET_ACCESS_KEY"}, "api_key_env"),
        ({"api_key_env": "ANNEAL_TEACHER_KEY_"}, "api_key_env"),
        ({"temperature": 2.1}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 32_769}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"max_concurrency": 257}, "max_concurrency"),
    ],
)
async def test_a_teacher_can_neither_be_anywhere_nor_get_any_secret(
    house: House, source: str, teacher: dict[str, Any], field: str
) -> None:
    order_ = order(
        source, generator="backtranslate", params={}, max_total_tokens=9, teacher=pb.Teacher(**{**TEACHER, **teacher})
    )
    _, _, fields = await refused(house.synthesis.SynthesizeDataset(order_))
    assert fields == [f"recipe.teacher.{field}"]


async def test_a_bad_template_is_refused_with_its_line(house: House, source: str) -> None:
    request = order(source, params={"tasks": [{**TASK, "answer": "one\n{% if %}"}]})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.synthesis.SynthesizeDataset(request)
    assert "line 2" in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parent": "projects/P"}, "parent"),
        ({"dataset_id": "../x"}, "dataset_id"),
        ({"source": "projects/p/datasets/docs"}, "source"),
        ({"parent": ""}, "parent"),
    ],
)
async def test_a_name_outside_its_pattern_is_refused(
    house: House, source: str, change: dict[str, str], field: str
) -> None:
    request = order(source)
    for name, value in change.items():
        setattr(request, name, value)
    assert (await refused(house.synthesis.SynthesizeDataset(request)))[2] == [field]


async def test_a_source_that_does_not_exist_is_missing(house: House) -> None:
    nowhere = "projects/p/datasets/docs/versions/000000000000"
    expected: tuple[str, str, list[str]] = ("NOT_FOUND", "DATASET_VERSION_MISSING", [])
    assert await refused(house.synthesis.SynthesizeDataset(order(nowhere))) == expected
    preview = pb.PreviewSynthesisRequest(source=nowhere, recipe=make_recipe())
    assert await refused(house.synthesis.PreviewSynthesis(preview)) == expected


async def failed(house: House, operation: operations_pb2.Operation) -> str:
    done = await house.finished(operation)
    assert done.HasField("error")
    return str(done.error)


async def test_preferences_are_refused_by_name(house: House, source: str) -> None:
    pairs = (await house.publish_preferences("Is it?")).name
    call = house.synthesis.SynthesizeDataset(order(pairs))
    assert await refused(call) == ("INVALID_ARGUMENT", "INVALID_REQUEST", ["source"])
    call = house.synthesis.SynthesizeDataset(order(source, novelty=pb.Novelty(against=[source, pairs])))
    assert await refused(call) == ("INVALID_ARGUMENT", "INVALID_REQUEST", ["recipe.novelty.against[1]"])
    preview = pb.PreviewSynthesisRequest(source=pairs, recipe=make_recipe())
    assert (await refused(house.synthesis.PreviewSynthesis(preview)))[2] == ["source"]


async def test_conditions_that_nothing_meets_fail_the_job_and_publish_nothing(house: House, source: str) -> None:
    task = {**TASK, "where": {"types": ["opcode"]}}
    request = order(source, params={"tasks": [task]})
    request.dataset_id = "nothing"
    operation = await house.synthesis.SynthesizeDataset(request)
    assert "NOTHING_TO_WORK_ON" in await failed(house, operation)
    rows = "projects/p/datasets/nothing/versions/latest"
    assert (await refused(house.synthesis.SynthesizeDataset(order(rows))))[0] == "NOT_FOUND"


def taught(source: str, base_url: str, *, budget: int = 100_000, **more: Any) -> pb.SynthesizeDatasetRequest:
    teacher = pb.Teacher(base_url=base_url, model="teacher-1", max_tokens=50, temperature=0.0, **more)
    params = {"over": "spans", "min_extract_characters": 1, "pairs": 1}
    return order(source, generator="backtranslate", params=params, teacher=teacher, max_total_tokens=budget)


def one_pair(body: dict[str, Any], _: int) -> Any:
    line = next(
        line for line in body["messages"][-1]["content"].splitlines() if "demo" in line and "Extract" not in line
    )
    return completion(json.dumps({"pairs": [{"instruction": f"What is {line[:30]}?", "answer": line}]}))


async def test_a_teacher_writes_rows_with_provenance_and_a_budget(
    house: House, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNEAL_TEACHER_KEY_MAIN", "s3cret")
    with openai_server(one_pair) as server:
        request = taught(source, server.base_url, api_key_env="ANNEAL_TEACHER_KEY_MAIN")
        version = await house.version(await house.synthesis.SynthesizeDataset(request))
    assert server.keys == ["Bearer s3cret"] * 4
    rows = house.rows(version)
    assert len(rows) == 4
    origin = json.loads(rows[0]["origin"])
    assert origin["teacher"] == {"asked": "teacher-1", "answered": "teacher-as-served"}
    assert origin["prompt_digest"].startswith("sha256:")
    assert origin["sampling"]["max_tokens"] == 50
    assert dict(rows[0]["scores"])["grounding"] == 1.0
    assert "s3cret" not in version.recipe_json


async def test_a_budget_too_small_for_one_call_makes_an_empty_version_where_allowed(house: House, source: str) -> None:
    with openai_server(one_pair) as server:
        request = taught(source, server.base_url, budget=9)
        failed = await house.finished(await house.synthesis.SynthesizeDataset(request))
        assert "no row was kept of 0" in failed.error.message
        request.allow_empty = True
        version = await house.version(await house.synthesis.SynthesizeDataset(request))
    assert server.requests == []
    assert version.row_count == 0


async def test_a_teacher_that_refuses_fails_the_job_at_once(house: House, source: str) -> None:
    with openai_server(lambda *_: failure(401)) as server:
        operation = await house.synthesis.SynthesizeDataset(taught(source, server.base_url))
        assert "TEACHER_REFUSED" in await failed(house, operation)
    assert len(server.requests) <= 4


async def test_a_teacher_without_a_free_place_fails_the_job_after_the_wait(tmp_path: Path) -> None:
    hurried = TEACHER_OPTIONS.model_copy(update={"away_s": 0.0, "attempts": 1})
    async with running(tmp_path, hurried) as own:
        documents = (await own.publish_documents([pages.document(pages.COPY)])).name
        with openai_server(lambda *_: failure(429)) as server:
            operation = await own.synthesis.SynthesizeDataset(taught(documents, server.base_url))
            assert "TEACHER_AWAY" in await failed(own, operation)


async def test_a_key_that_is_not_there_fails_the_job(house: House, source: str) -> None:
    request = taught(source, "http://127.0.0.1:9/v1", api_key_env="ANNEAL_TEACHER_KEY_NOBODY_SET")
    operation = await house.synthesis.SynthesizeDataset(request)
    assert "ANNEAL_TEACHER_KEY_NOBODY_SET" in await failed(house, operation)


async def test_a_slow_teacher_does_not_keep_a_cancelled_job(house: House, source: str) -> None:
    with openai_server(lambda *_: 4.0) as server:
        operation = await house.synthesis.SynthesizeDataset(taught(source, server.base_url))
        while not server.requests:
            operation = await house.operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name))
        await house.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))
        done = await house.finished(operation)
    assert done.error.code == grpc.StatusCode.CANCELLED.value[0]


async def test_a_preview_shows_rows_and_stores_nothing(house: House, source: str) -> None:
    task = {**TASK, "max_answer_characters": 8}
    recipe = make_recipe(params={"tasks": [task]})
    seen = await house.synthesis.PreviewSynthesis(pb.PreviewSynthesisRequest(source=source, recipe=recipe))
    assert len(seen.rows) == 3
    row = json.loads(seen.rows[0].json)
    assert row["messages"][1]["content"] == "function"
    assert row["origin"]["task"] == "kind"
    assert [(one.reason, one.row_count) for one in seen.removals] == [("answer_too_long", 1)]
    assert seen.document_count == 1


async def test_a_preview_ends_after_the_rows_it_was_asked_for(house: House, source: str) -> None:
    request = pb.PreviewSynthesisRequest(source=source, recipe=make_recipe(), max_rows=2)
    assert len((await house.synthesis.PreviewSynthesis(request)).rows) == 2


async def test_a_preview_never_costs_tokens(house: House, source: str) -> None:
    teacher = pb.Teacher(**TEACHER)
    recipe = make_recipe("backtranslate", {}, teacher=teacher, max_total_tokens=9)
    _, _, fields = await refused(
        house.synthesis.PreviewSynthesis(pb.PreviewSynthesisRequest(source=source, recipe=recipe))
    )
    assert fields == ["recipe.generator"]


async def test_a_broken_document_is_quarantined_and_the_others_go_on(house: House) -> None:
    broken = pages.row("x", {"spans": [{"type": "class", "start": 9, "end": 9}]}, uri="broken.html")
    version = await house.publish_documents([broken, pages.document(pages.COPY)], name="mixed")
    made = await house.version(await house.synthesis.SynthesizeDataset(order(version.name)))
    assert (made.row_count, made.quarantined_row_count) == (1, 1)
    (bad,) = house.rows(made, "quarantined")
    assert (bad["cause"], bad["file"]) == ("bad_document", "broken.html")
