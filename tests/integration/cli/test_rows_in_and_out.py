"""The command line on rows: in by a mapping of columns, out in a format, and in again as the same rows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.datasets import DatasetReader
from tests.fixtures.ingestion_house import House, running


async def anneal(house: House, home: Path, *words: str) -> tuple[int, str, str]:
    """Run a command against the house; its exit code and what it printed."""
    given = ("--address", house.host.address, "--project", "p")
    environment = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "anneal.cli", *given, *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def made(house: House, home: Path, *words: str) -> dict[str, Any]:
    code, out, err = await anneal(house, home, "--json", *words)
    assert code == 0, err
    return dict(json.loads(out))


@pytest.mark.timeout(300)
async def test_rows_go_in_by_their_columns_and_out_and_in_again(tmp_path: Path) -> None:
    table = tmp_path / "faq.csv"
    table.write_text("topic,asks,says\nlamps,How tall?,Two metres.\nlamps,Who is it?,{{NAME}}.\nfuses,,None.\n")
    folder = tmp_path / "out"
    async with running(tmp_path / "house") as house:
        mapped = ("--column", "prompt=asks", "--column", "answer=says")
        code, _, err = await anneal(house, tmp_path, "ingest", "faq", str(table), "--rows", "--column", "prompt")
        assert (code, "--column prompt is not such as name=value" in err) == (2, True)
        code, _, err = await anneal(house, tmp_path, "ingest", "faq", str(table), "--rows")
        assert (code, "FORMAT_UNKNOWN" in err, "columns" in err) == (1, True, True), err
        version = await made(
            house, tmp_path, *("ingest", "faq", str(table), "--rows", *mapped, "--placeholder", "NAME=Lumi")
        )
        rows = DatasetReader(house.host.store, version["digest"]).table().to_pylist()
        assert [row["messages"][1]["content"] for row in rows] == ["Two metres.", "Lumi."]
        told = await made(house, tmp_path, "datasets", "export", "faq", str(folder), "--format", "query_response")
        assert told == {
            **{"files": {"train": str(folder / "train.jsonl")}, "rows": 2},
            **{"rows_left_out": {}, "fields_left_out": {}},
        }
        text = (folder / "train.jsonl").read_bytes()
        assert json.loads(text.splitlines()[0]) == {"query": "How tall?", "response": "Two metres.", "topic": "lamps"}
        code, _, err = await anneal(house, tmp_path, "datasets", "export", "faq", str(folder), "--format", "openai")
        assert (code, "is there already" in err) == (2, True)
        code, _, err = await anneal(
            house, tmp_path, "datasets", "export", "faq", str(tmp_path / "k"), "--format", "kto"
        )
        assert (code, "holds no conversation rows" in err) == (2, True)
        again = tmp_path / "again"
        await made(house, tmp_path, "datasets", "export", "faq", str(again), "--format", "query_response")
        assert (again / "train.jsonl").read_bytes() == text
        back = await made(house, tmp_path, "ingest", "faq-back", str(folder / "train.jsonl"), "--rows")
        ids = [row["id"] for row in DatasetReader(house.host.store, back["digest"]).table().to_pylist()]
        assert ids == [row["id"] for row in rows]
        recipe = tmp_path / "order.yaml"
        recipe.write_text("columns: {text: says, title: topic}\n")
        version = await made(house, tmp_path, "ingest", "texts", str(table), "--rows", "--recipe", str(recipe))
        assert version["kind"] == "DATASET_KIND_DOCUMENT"
