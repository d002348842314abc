"""A folder and a Hub id are told apart before anything starts; what is neither gets one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.cli.base_models import BaseModelUnclear, Source, folder_or_hub, model_id_of, source_of
from anneal.cli.loop.recipe import load
from tests.unit.cli.test_recipe import written


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model in `models/tiny`; it is the home folder too."""
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "weights.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "text", ["models/tiny", "./models/tiny", "models/tiny/", "~/models/tiny", "models/../models/tiny"]
)
def test_a_folder_that_is_there_is_the_model(here: Path, text: str) -> None:
    assert folder_or_hub(text) == here / "models" / "tiny"
    assert model_id_of(source_of(text)) == "tiny"


@pytest.mark.parametrize(
    ("text", "model_id"),
    [
        ("owner/name", "name"),
        ("owner/Na.me-1B@v1", "na-me-1b"),
        ("owner/name@refs/pr/1", "name"),
        ("models/tinny@main", "tinny"),
        (f"owner/{'x' * 90}", "x" * 63),
    ],
)
def test_what_reads_owner_and_name_is_the_hubs(here: Path, text: str, model_id: str) -> None:
    assert folder_or_hub(text) is None
    assert model_id_of(source_of(text)) == model_id


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("./models/tinny", "there is no folder ./models/tinny"),
        ("./tinny", "there is no folder ./tinny"),
        ("../tinny", "there is no folder ../tinny"),
        ("~/tinny", "there is no folder ~/tinny"),
        ("/nowhere/tinny", "there is no folder /nowhere/tinny"),
        ("/tinny", "there is no folder /tinny"),
        ("a/b/c", "there is no folder a/b/c, and a Hub id reads owner/name"),
        ("tinny", "there is no folder tinny, and a Hub id reads owner/name"),
        ("owner/name/", "there is no folder owner/name/"),
        ("models/tinny", "there is no models/tinny in the folder models; .*say models/tinny@main"),
        ("models/weights.safetensors", "is a file"),
    ],
)
def test_a_path_that_is_not_there_is_no_hub_id(here: Path, text: str, says: str) -> None:
    with pytest.raises(BaseModelUnclear, match=says) as refused:
        load(written(here), base_model=text)
    assert "\n" not in str(refused.value)


def test_another_base_model_takes_the_place_of_the_recipes(here: Path) -> None:
    recipe = written(here)
    kept = load(recipe).recipe.base_model
    assert (kept.id, kept.folder, kept.hub_id) == ("b", None, "owner/name")
    loaded = load(recipe, base_model="models/tiny")
    assert (loaded.recipe.base_model.id, loaded.recipe.base_model.hub_id) == ("tiny", "")
    assert loaded.recipe.base_model.folder == here / "models" / "tiny"
    assert loaded.base_model == Source(folder=here / "models" / "tiny")
    hub = load(recipe, base_model="other/Model@v2").recipe.base_model
    assert (hub.id, hub.folder, hub.hub_id) == ("model", None, "other/Model@v2")
    (here / "elsewhere").mkdir()
    assert loaded.path(Path(loaded.recipe.base_model.folder)) == here / "models" / "tiny"


@pytest.mark.parametrize(
    ("text", "source", "model_id"),
    [
        ("hub:owner/Name@v1", Source(hub_id="owner/Name@v1"), "name"),
        ("hub:models/tiny", Source(hub_id="models/tiny"), "tiny"),
        ("s3://bucket/models/Llama-3.1-8B/", Source(uri="s3://bucket/models/Llama-3.1-8B/"), "llama-3-1-8b"),
        ("gs://bucket", Source(uri="gs://bucket"), "bucket"),
        ("az://container/x", Source(uri="az://container/x"), "x"),
        ("server:/models/tiny", Source(server_folder="/models/tiny"), "tiny"),
    ],
)
def test_what_says_where_it_is_needs_no_guess(here: Path, text: str, source: Source, model_id: str) -> None:
    assert source_of(text) == source
    assert model_id_of(source) == model_id
    loaded = load(written(here), base_model=text)
    assert (loaded.base_model, loaded.recipe.base_model.id) == (source, model_id)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hub:name", "not `owner/name`"),
        ("hub:../x", "not `owner/name`"),
        ("server:models/tiny", "by its whole path"),
        ("file:///models/tiny", "not read from file://; name a folder or a GGUF file, hub:OWNER/NAME"),
        ("http://host/x", "not read from http://"),
        ("S3://bucket/x", "not read from S3://"),
    ],
)
def test_what_says_it_wrongly_gets_one_clear_line(here: Path, text: str, says: str) -> None:
    with pytest.raises(BaseModelUnclear, match=says) as refused:
        source_of(text)
    assert "\n" not in str(refused.value)
