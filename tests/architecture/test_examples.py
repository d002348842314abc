"""The example's base model never saw a page that its test sets can ask about."""

from __future__ import annotations

import json
import re
import tarfile
from fnmatch import fnmatch

import pytest
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


SHOP = EXAMPLES / "bike-shop"
CASE = re.compile(r"^## (.+)\n\n(.+)$", re.MULTILINE)


def shop_cases(stem: str) -> dict[str, list[tuple[str, str]]]:
    """`file -> its questions and answers`, of the recipe's files of one task."""
    files = yaml.safe_load((SHOP / "recipe.yaml").read_text())["documents"]["files"]
    return {name: CASE.findall((SHOP / name).read_text()) for name in files if name.startswith(stem)}


@pytest.mark.parametrize("stem", ["inbox", "orders", "questions"])
def test_the_shops_test_files_ask_what_no_training_file_asks(stem: str) -> None:
    recipe = yaml.safe_load((SHOP / "recipe.yaml").read_text())
    split = Split(**next(step["params"] for step in recipe["curation"] if step["step"] == "split"))
    cases = shop_cases(stem)
    assert {path.name for path in SHOP.glob(f"{stem}-*.md")} == set(cases), "every file is in the recipe"
    (tested,) = [name for name in cases if split.of(name) == "test"]
    assert [split.of(name) for name in cases].count("validation") == 1
    assert recipe["min_scored_rows"] == 20 <= len(cases[tested]) <= recipe["ask"]["unseen"], "all are scored and shown"
    asked = [question.casefold() for questions in cases.values() for question, _ in questions]
    assert len(asked) == len(set(asked)), "no question twice"


def test_no_city_of_an_order_comes_twice_and_every_order_says_what_its_json_says() -> None:
    orders = [(text, json.loads(answer)) for found in shop_cases("orders").values() for text, answer in found]
    cities = [order["city"] for _, order in orders]
    assert len(cities) == len(set(cities))
    for text, order in orders:
        assert list(order) == ["item", "qty", "city"]
        assert order["city"] in text
        assert order["item"] in text.casefold()
        assert order["qty"] >= 1


def test_the_facts_of_the_shop_are_the_same_in_every_file_and_the_desks_are_six() -> None:
    facts = [{answer for _, answer in found} for found in shop_cases("questions").values()]
    assert len(facts[0]) == 20
    assert all(each == facts[0] for each in facts)
    desks = {answer for found in shop_cases("inbox").values() for _, answer in found}
    assert desks == {"fix", "hire", "shop", "cash", "lost", "club"}
    readme = (SHOP / "README.md").read_text()
    assert all(f"`{desk}`" in readme for desk in desks)
