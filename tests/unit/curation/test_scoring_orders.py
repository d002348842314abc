from __future__ import annotations

import json
from typing import Any

import pytest

from anneal.curation import codec
from anneal.curation.domain.judges import Judge
from anneal.curation.domain.steps.llm_judge import LlmJudge
from anneal.curation.domain.steps.reward_model import RewardModel
from anneal.curation.settings import CurationOptions, JudgeOptions, Settings
from anneal.kit.errors import Invalid
from anneal.v1 import curation_service_pb2 as pb

JUDGE = {"base_url": "http://judges.example:8000/v1", "model": "m"}
OPTIONS = CurationOptions(judges=JudgeOptions(hosts=("*.example",), models=("/models/*", "good/*")))


def order(*steps: tuple[str, dict[str, Any]]) -> pb.CurateDatasetRequest:
    request = pb.CurateDatasetRequest(
        parent="projects/p", dataset_id="d", sources=["projects/p/datasets/s/versions/latest"]
    )
    for name, params in steps:
        request.steps.add(step=name).params.update(params)
    return request


def wrong(*steps: tuple[str, dict[str, Any]]) -> list[str]:
    """The fields that are wrong."""
    try:
        codec.decode_order(order(*steps), OPTIONS)
    except Invalid as error:
        return [field for field, _ in error.violations]
    return []


def judged_by(**more: Any) -> dict[str, Any]:
    return {"judge": {**JUDGE, **more}}


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("llm_judge", judged_by()),
        (
            "llm_judge",
            {**judged_by(api_key_env="ANNEAL_JUDGE_KEY_A"), "length_weight": 0, "asking": {"concurrency": 256}},
        ),
        ("llm_jury", {"judges": [JUDGE, {**JUDGE, "name": "other"}], "quorum": 2}),
        ("pairwise_judge", {**judged_by(), "alternative_key": "rejected"}),
        ("reward_model", {"model": {"name": "good/model", "revision": "main"}}),
        ("quality_classifier", {"model": {"name": "/models/edu"}, "label": "good", "max_unscored_share": 1}),
        ("score_filter", {"score": "llm_judge", "min": 3, "unscored": "keep"}),
    ],
)
def test_orders_for_scores_are_read(name: str, params: dict[str, Any]) -> None:
    assert wrong((name, params)) == []


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("llm_judge", {}, "judge"),
        ("llm_judge", judged_by(base_url="ftp://judges.example"), "judge.base_url"),
        ("llm_judge", judged_by(base_url="http://me:secret@judges.example/v1"), "judge.base_url"),
        ("llm_judge", judged_by(base_url="http://elsewhere.test/v1"), "judge.base_url"),
        ("llm_judge", judged_by(model=" "), "judge.model"),
        ("llm_judge", judged_by(api_key_env="PATH"), "judge.api_key_env"),
        ("llm_judge", judged_by(api_key="sk-1"), "judge.api_key"),
        ("llm_judge", {**judged_by(), "rubric": ""}, "rubric"),
        ("llm_judge", {**judged_by(), "length_weight": -0.1}, "length_weight"),
        ("llm_judge", {**judged_by(), "reference_characters": 0}, "reference_characters"),
        ("llm_judge", {**judged_by(), "max_length_correction": 4.1}, "max_length_correction"),
        ("llm_judge", {**judged_by(), "max_unscored_share": 1.1}, "max_unscored_share"),
        ("llm_judge", {**judged_by(), "score_name": "x" * 65}, "score_name"),
        ("llm_judge", {**judged_by(), "asking": {"concurrency": 257}}, "asking.concurrency"),
        ("llm_judge", {**judged_by(), "asking": {"max_tokens": 15}}, "asking.max_tokens"),
        ("llm_judge", {**judged_by(), "asking": {"max_characters": 0}}, "asking.max_characters"),
        ("llm_jury", {"judges": [JUDGE]}, "judges"),
        ("llm_jury", {"judges": [JUDGE, JUDGE]}, "judges"),
        ("llm_jury", {"judges": [JUDGE, {**JUDGE, "name": "o"}], "quorum": 3}, "quorum"),
        ("llm_jury", {"judges": [JUDGE, {**JUDGE, "model": "n", "base_url": "http://x/v1"}]}, "judges[1].base_url"),
        ("pairwise_judge", {**judged_by(), "alternative_key": ""}, "alternative_key"),
        ("reward_model", {"model": {"name": "bad/model"}}, "model.name"),
        ("reward_model", {"model": {"name": "good/m", "batch_rows": 0}}, "model.batch_rows"),
        ("reward_model", {"model": {"name": "good/m", "max_tokens": 0}}, "model.max_tokens"),
        ("quality_classifier", {"model": {"name": "good/m"}, "label": ""}, "label"),
        ("quality_classifier", {"model": {"name": "good/m"}, "long_texts": "cut"}, "long_texts"),
        ("score_filter", {"score": "q", "min": 3}, "unscored"),
        ("score_filter", {"score": "q", "unscored": "keep"}, "min"),
    ],
)
def test_a_wrong_setting_is_named_where_it_stands(name: str, params: dict[str, Any], field: str) -> None:
    assert wrong((name, params)) == [f"steps[0].params.{field}"]


def test_two_scorers_of_one_name_would_overwrite_each_other() -> None:
    first, second = ("llm_judge", judged_by()), ("pairwise_judge", {**judged_by(), "score_name": "llm_judge"})
    assert wrong(first, second) == ["steps[1].params.score_name"]
    assert wrong(first, ("llm_judge", {**judged_by(), "score_name": "again"})) == []


def test_a_job_does_not_ask_again_what_the_service_allowed() -> None:
    request = order(("llm_judge", judged_by(base_url="http://elsewhere.test/v1")))
    assert len(codec.decode_steps(request.steps)) == 1


def test_a_manifest_keeps_what_shapes_rows_and_not_where_models_were_reached() -> None:
    step = LlmJudge(judge=Judge(base_url="http://judges.example/v1", model="m", api_key_env="ANNEAL_JUDGE_KEY_A"))
    kept = codec.encode_step("llm_judge", step)
    assert kept["judge"] == {"model": "m", "name": ""}
    assert kept["asking"] == {"max_tokens": 512, "max_characters": 60_000}
    assert "ANNEAL_JUDGE_KEY" not in json.dumps(kept)
    ((_, reward),) = codec.decode_steps(order(("reward_model", {"model": {"name": "good/m"}})).steps)
    assert isinstance(reward, RewardModel)
    assert "device" not in codec.encode_step("reward_model", reward)["model"]


def test_judges_are_reached_as_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("ANNEAL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ANNEAL_CURATION__JUDGES__HOSTS", '["*.judges.example"]')
    monkeypatch.setenv("ANNEAL_CURATION__JUDGES__ATTEMPTS", "2")
    monkeypatch.setenv("ANNEAL_JUDGE_KEY_MAIN", "a key is no setting")
    judges = Settings().curation.judges
    assert (judges.hosts, judges.models, judges.attempts, judges.timeout_s) == (("*.judges.example",), ("*",), 2, 60)
