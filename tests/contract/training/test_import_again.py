"""The command imports a base model anew every time: a folder's name does not say what is in it now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from anneal.cli.base_models import BaseModelChanged
from anneal.cli.client import Client
from anneal.cli.gateway import Gateway
from anneal.cli.loop.recipe import load
from anneal.cli.loop.run import Loop
from anneal.cli.output import Output
from anneal.v1 import model_pb2
from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import House
from tests.unit.cli.test_recipe import GOOD

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]


def run(house: House, recipe: Path) -> Any:
    """Run a recipe as `anneal run` does, up to the first service that is not there; the report's first step."""
    loop = Loop(
        Client(house.host.address, project="p"), Gateway(""), load(recipe), Output(as_json=True), command="test"
    )
    try:
        loop.run()
    except grpc.RpcError:
        assert [step.name for step in loop.report.steps][:2] == ["import base model", "ingest"]
    return loop.report.steps[0]


async def test_changed_weights_are_noticed_and_equal_ones_skipped(house: House, tmp_path: Path) -> None:
    folder = write_base(house.models / "edited")
    (tmp_path / "docs.txt").write_text("text")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**GOOD, "base_model": {"id": "edited", "folder": str(folder)}}))

    first = await asyncio.to_thread(run, house, recipe)
    again = await asyncio.to_thread(run, house, recipe)
    assert (first.state, again.state) == ("done", "skipped")
    assert first.detail.startswith(f"{again.detail}, sent ")
    assert (first.operation != "", again.operation) == (True, "")

    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1  # the lowest bits of the last number: still finite
    weights.write_bytes(raw)
    with pytest.raises(BaseModelChanged, match=r"edited is not what was imported as model 'edited' before") as refused:
        await asyncio.to_thread(run, house, recipe)
    assert "\n" not in str(refused.value)
    assert "give it another id" in str(refused.value)


async def test_a_command_that_trains_imports_anew_too(house: House, base: model_pb2.Model) -> None:
    from typer.testing import CliRunner

    from anneal.cli import __main__ as command_line
    from anneal.cli.app import app

    assert command_line.COMMANDS  # imported, so that every command is registered
    other = write_base(house.models / "elsewhere" / "base", seed=7)
    words = ["--address", house.host.address, "--project", "p", "plan", "rows", "--base-model", str(other)]
    ended = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert isinstance(ended.exception, BaseModelChanged)
    assert base.name.endswith("/base")
