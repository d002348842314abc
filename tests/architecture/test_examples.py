"""The example's base model never saw a page that its test sets can ask about."""

from __future__ import annotations

import tarfile
from fnmatch import fnmatch

import yaml

from anneal.curation.domain.steps.split import Split, place_of
from tests.architecture.repository import ROOT

EXAMPLES = ROOT / "examples"


def test_the_base_left_out_every_page_of_the_test_split() -> None:
    recipe = yaml.safe_load((EXAMPLES / "python-docs" / "recipe.yaml").read_text())
    split = Split(**next(step["params"] for step in recipe["curation"] if step["step"] == "split"))
    with tarfile.open(EXAMPLES / "python-docs" / recipe["documents"]["files"][0]) as archive:
        names = [name for name in archive.getnames() if name.endswith(".html")]
    pages = [name for name in names if any(fnmatch(name, wanted) for wanted in recipe["documents"]["include"])]
    asked = {page for page in pages if split.of(page) == "test"}
    rule = yaml.safe_load((EXAMPLES / "tiny-base" / "recipe.yaml").read_text())["corpus"]["leave_out"]
    left_out = {n for n in names if n.startswith(rule["pages"]) and place_of(rule["seed"], n) < rule["below"]}
    assert len(asked) > 40
    assert asked <= left_out
    card = (EXAMPLES / "tiny-base" / "model" / "README.md").read_text()
    told = card.partition("## What it did not see")[2].partition("##")[0]
    for page in left_out:
        assert f"`{page.removeprefix('library/').removesuffix('.html')}`" in told
