"""`anneal models import` as a person types it: a folder of the client is uploaded over a real channel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.tiny_model import write_base
from tests.fixtures.training_house import House

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(180)]

MIB = 1 << 20


def start(house: House, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "anneal.cli", "--address", house.host.address, "--project", "p", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, stdin=subprocess.DEVNULL
    )


async def anneal(house: House, *words: str) -> tuple[int, str, str]:
    """Exit code, output and complaints."""
    with start(house, *words) as process:
        out, complaints = await asyncio.to_thread(process.communicate, timeout=150)
    return process.returncode, out, complaints


async def as_json(house: House, *words: str) -> Any:
    code, out, complaints = await anneal(house, "--json", "models", "import", *words)
    assert code == 0, complaints
    return json.loads(out)


async def complaint(house: House, *words: str) -> str:
    code, _, complaints = await anneal(house, "models", "import", *words)
    assert code == 1, complaints
    assert complaints.count("\n") == 1, "one line"
    return complaints


def total(folder: Path, names: Sequence[str] | None = None) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if names is None or path.name in names)


async def test_a_folder_is_sent_once_and_the_same_again_changes_nothing(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "mine", seed=11)
    held = {path.name for path in folder.iterdir()}
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    first = await as_json(house, "mine", str(folder))
    # What another test of this house has sent, such as the same tokenizer, is not sent again.
    assert {"model.safetensors"} <= set(first["sent_files"]) <= held
    assert (first["skipped"], first["sent_bytes"]) == (False, total(folder, first["sent_files"]))
    assert first["left_out"] == ["pytorch_model.bin (pickled, never loaded)"]
    assert first["model"]["name"] == "projects/p/models/mine"
    assert first["model"]["origin"] == "mine"
    assert {path.name for path in house.host.store.materialize(first["model"]["digest"]).iterdir()} == held
    again = await as_json(house, "mine", str(folder))
    assert (again["skipped"], again["sent_files"], again["operation"]) == (True, [], "")
    assert again["model"] == first["model"]
    # Under another id no byte is sent again.
    other = await as_json(house, "mine-too", str(folder))
    assert (other["skipped"], other["sent_files"], other["sent_bytes"]) == (False, [], 0)
    assert other["model"]["digest"] == first["model"]["digest"]

    code, out, complaints = await anneal(house, "models", "import", "mine", str(folder))
    assert (code, complaints) == (0, "")
    assert "left out: pytorch_model.bin (pickled, never loaded)" in out
    assert "unchanged, skipped" in out
    assert first["model"]["digest"] in out


async def test_other_files_under_the_same_name_are_refused_before_anything_is_sent(
    house: House, tmp_path: Path
) -> None:
    folder = write_base(tmp_path / "named", seed=12)
    await as_json(house, "named", str(folder))
    (folder / "README.md").write_text("changed")
    uploads = house.host.runtime.settings.data_dir / "uploads"
    before = sorted(path.name for path in uploads.rglob("*"))
    said = await complaint(house, "named", str(folder))
    assert "is not what was imported as model 'named' before" in said
    assert "give it another id (NAME of `anneal models import`" in said
    assert sorted(path.name for path in uploads.rglob("*")) == before


async def test_what_cannot_be_imported_is_one_line(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = await complaint(house, "bad", str(folder))
    assert "pytorch_model.bin (pickled, never loaded)" in said
    assert "BASE_MODEL_UNUSABLE" in said
    assert "there is no folder ./nowhere" in await complaint(house, "bad", "./nowhere")
    assert "NAME" in await complaint(house, "Not An Id", str(folder))
    assert "FOLDER_NOT_ALLOWED" in await complaint(house, "bad", f"server:{tmp_path}")
    assert "server:/" in await complaint(house, "bad", "server:models")
    assert "not read from file://" in await complaint(house, "bad", f"file://{tmp_path}")


async def test_a_folder_of_the_server_and_a_uri_are_named_by_their_prefix(house: House) -> None:
    mounted = write_base(house.models / "mounted", seed=13)
    made = await as_json(house, "mounted", f"server:{mounted}")
    assert (made["model"]["origin"], made["sent_bytes"], made["skipped"]) == ("mounted", 0, False)
    assert (await as_json(house, "mounted", f"server:{mounted}"))["skipped"]
    assert "uri:" in await complaint(house, "bad", "s3://bucket/../x")


async def test_a_client_that_was_killed_goes_on_where_it_was(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "big", seed=14)
    size = 256 * MIB
    with (folder / "a-first.json").open("wb") as file:  # sent before all others
        file.write(b'"' + b"x" * (size - 2) + b'"')
    uploads = house.host.runtime.settings.data_dir / "uploads" / "p"

    def arrived() -> int:
        return max((path.stat().st_size for path in uploads.glob("*/part")), default=0)

    with start(house, "models", "import", "big", str(folder)) as process:
        async with asyncio.timeout(60):
            while arrived() < 24 * MIB:
                assert process.poll() is None
                await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    deadline, before = time.monotonic() + 10, -1
    while before != arrived() and time.monotonic() < deadline:  # what is on its way still arrives
        before = arrived()
        await asyncio.sleep(0.5)
    assert 24 * MIB <= before < size, "it was killed in the middle"
    made = await as_json(house, "big", str(folder))
    assert "a-first.json" in made["sent_files"]
    assert made["sent_bytes"] == total(folder, made["sent_files"]) - before, "only the rest was sent"
    assert made["model"]["digest"] == house.host.store.put_tree(folder)


async def test_a_file_that_changes_while_it_is_sent_is_refused(house: House, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "moving", seed=15)
    big = folder / "a-first.json"
    with big.open("wb") as file:
        file.write(b"y" * (256 * MIB))
    uploads = house.host.runtime.settings.data_dir / "uploads" / "p"
    with start(house, "models", "import", "moving", str(folder)) as process:
        async with asyncio.timeout(60):
            while not any(path.stat().st_size > 8 * MIB for path in uploads.glob("*/part")):
                assert process.poll() is None
                await asyncio.sleep(0.005)
        with big.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"z")
        _, complaints = await asyncio.to_thread(process.communicate, timeout=120)
    assert process.returncode == 1
    assert f"{big} changed while it was sent" in complaints
    assert complaints.count("\n") == 1
