"""Recipes are checked whole before anything starts, and the refusal names the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from anneal.cli.loop.recipe import RecipeUnreadable, load

GOOD: dict[str, Any] = {
    "title": "t",
    "project": "p",
    "base_model": {"id": "b", "hub_id": "owner/name"},
    "documents": {"dataset": "d", "files": ["docs.txt"]},
    "curation": [{"step": "split"}],
    "training": {"method": "lora"},
    "tasks": [
        {
            "name": "one",
            "template": {"name": "one"},
            "metrics": ["token_f1"],
            "policy": [{"metric": "token_f1", "min_gain": 0}],
        }
    ],
}


def written(folder: Path, **changes: Any) -> Path:
    (folder / "docs.txt").write_text("text")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def task(**changes: Any) -> dict[str, Any]:
    return {"tasks": [{**GOOD["tasks"][0], **changes}]}


def test_a_good_recipe_gives_messages(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, min_scored_rows=7))
    one = loaded.recipe.tasks[0]
    assert loaded.training_spec(one).method == "lora"
    policy = loaded.policy(one, "projects/p/benchmarks/b")
    assert (policy.rules[0].benchmark, policy.min_scored_rows) == ("projects/p/benchmarks/b", 7)
    assert [step.step for step in loaded.steps(one)] == ["split"]


def test_a_tasks_settings_win_over_the_shared_ones(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, training={"method": "lora", "epochs": 1}, **task(training={"epochs": 3})))
    assert loaded.training_spec(loaded.recipe.tasks[0]).epochs == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": {"metod": "lora"}}, "training of task one: .*metod"),
        ({"training": {"lora": {"rank": "many"}}}, "training of task one: .*rank"),
        ({"curation": [{"stp": "split"}]}, "curation of task one: .*stp"),
        (task(policy=[{"metric": "f1", "min_gian": 0}]), "policy of task one: .*min_gian"),
        (task(template="other"), "there is no template 'other'"),
        ({"documents": {"dataset": "d", "files": ["nowhere.txt"]}}, "nowhere.txt does not exist"),
        ({"tasks_file": "nowhere.yaml"}, "cannot read .*nowhere.yaml"),
    ],
)
def test_what_is_wrong_inside_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeUnreadable, match=says):
        load(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"surprise": 1}, "surprise"),
        ({"project": "NOT AN ID"}, "project"),
        ({"tasks": []}, "tasks"),
        ({"base_model": {"id": "b"}}, "base_model"),
        ({"base_model": {"id": "b", "hub_id": "a/b", "folder": "x"}}, "base_model"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError, match=place):
        load(written(tmp_path, **changes))


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a: [", b"- 1", b""])
def test_what_is_no_yaml_mapping_is_told(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text)
    with pytest.raises(RecipeUnreadable, match=r"recipe\.yaml"):
        load(path)


def test_documents_are_cut_as_the_recipe_says(tmp_path: Path) -> None:
    documents = {**GOOD["documents"], "chunking": {"max_characters": 2000, "min_characters": 200}}
    chunking = load(written(tmp_path, documents=documents)).recipe.documents.chunking
    assert chunking is not None
    assert chunking.model_dump() == {"max_characters": 2000, "min_characters": 200, "overlap_characters": 0}
    assert load(written(tmp_path)).recipe.documents.chunking is None
