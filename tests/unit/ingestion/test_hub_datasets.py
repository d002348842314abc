"""Which rows of a Hub dataset are read, and what is refused: the real clients in one process for all cases.

The Hub's client reads where the Hub is when it is imported, hence the process.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anneal.ingestion.adapters.hub_rows import check_split
from anneal.kit.errors import Invalid
from tests.fixtures.hub import hub_server
from tests.fixtures.hub_data import CARD, SPLITS, SUBSETS, chats, jsonl

SCRIPT = """
import json, sys
from pathlib import Path
from anneal.ingestion.adapters.containers import detect_container, read_rows
from anneal.ingestion.adapters.hub import open_dataset
from anneal.ingestion.adapters.hub_rows import HubRows
from anneal.ingestion.adapters.rows import Found
from anneal.ingestion.domain.limits import ArchiveLimits
from anneal.kit.errors import Refusal

def read(path, name):
    rows = read_rows(path, detect_container(path, name), name, max_line_bytes=1 << 24, max_depth=64)
    return ((name, row) for row in rows)

for number, (hub_id, config, split) in enumerate(json.loads(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(number)
    try:
        dataset = open_dataset(hub_id, config, folder / "cache")
        hub = HubRows(dataset, folder / "files", read, ArchiveLimits())
        slices = hub.slices(split)
        splits = hub.splits(slices)
        good = [(splits[name], row.row) for name, row in hub.rows(slices) if isinstance(row, Found)]
        rows = [(split, row["messages"][0]["content"]) for split, row in good]
        answer = {"rows": rows, "fetched": sum(p.is_file() for p in (folder / "files").glob("data/*.parquet"))}
    except Refusal as error:
        answer = {"reason": error.reason, "message": str(error)}
    print("answer:" + json.dumps(answer))
"""

FILES: dict[str, dict[str, bytes | str]] = {
    "acme/subsets": dict(SUBSETS),
    "acme/chats": dict(SPLITS),
    "acme/gated": {"a.jsonl": jsonl(chats(0, 1))},
    "acme/images": {"a.png": b"\x89PNG", "b.png": b"\x89PNG"},
    "acme/script": {"script.py": "raise SystemExit"},
    "acme/nothing": {"README.md": "# nothing"},
    "acme/odd": {**SUBSETS, "README.md": CARD.replace("train_sft", "unsupervised")},
    "acme/bomb": {"a.jsonl.gz": gzip.compress(b"\0" * (200 << 20))},
    "acme/elsewhere": {**SUBSETS, "README.md": CARD.replace("en/*.jsonl", "hf://datasets/acme/chats/data/*.parquet")},
}


@dataclass(frozen=True)
class Case:
    """What is asked for, and what comes."""

    hub_id: str
    config: str = ""
    split: str = ""
    numbers: tuple[int, ...] | None = None
    fetched: int = 0
    reason: str = ""
    text: str = ""


CASES = [
    Case("acme/chats", split="train[:7]", numbers=tuple(range(7)), fetched=1),
    Case("acme/chats", split="train[58:62]", numbers=tuple(range(58, 62)), fetched=2),
    Case("acme/chats", split="train[-3:]", numbers=(97, 98, 99), fetched=2),
    Case("acme/chats", split="train[10%:12%]", numbers=(10, 11), fetched=2),
    Case("acme/chats", split="validation[:2] + test[3:]", numbers=(100, 101, 113, 114), fetched=2),
    Case("acme/chats", split="train[99:2000]", numbers=(99,), fetched=2),
    Case("acme/chats", split="train[200:300]", numbers=(), fetched=2),
    Case("acme/odd", "de", "unsupervised", numbers=(3, 4)),
    Case("acme/missing", reason="HUB_DATASET_MISSING", text="no dataset acme/missing"),
    Case("acme/chats@v9", reason="HUB_DATASET_MISSING", text="no revision v9 of acme/chats"),
    Case("acme/gated", reason="HUB_DATASET_GATED", text="ask for access"),
    Case("acme/subsets", reason="HUB_CONFIG_UNKNOWN", text="name one of en, de"),
    Case("acme/subsets", "fr", reason="HUB_CONFIG_UNKNOWN", text="no subset 'fr'; it has en, de"),
    Case(
        "acme/chats", split="dev[:5]", reason="HUB_SPLIT_UNKNOWN", text="no split dev; it has train, validation, test"
    ),
    Case("acme/odd", "de", reason="HUB_SPLIT_UNKNOWN", text="a split 'unsupervised'"),
    Case("acme/images", reason="HUB_DATASET_UNSUPPORTED", text="of the kind imagefolder"),
    Case("acme/script", reason="HUB_DATASET_UNSUPPORTED", text="scripts are no longer supported"),
    Case("acme/elsewhere", "en", reason="HUB_DATASET_UNSUPPORTED", text="don't belong to acme/elsewhere"),
    Case("acme/nothing", reason="DATASET_EMPTY", text="no data files"),
    Case("acme/bomb", reason="ARCHIVE_REFUSED", text="expands more than"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("hub")
    with hub_server() as hub:
        for name, files in FILES.items():
            hub.datasets.add(name, files)
        hub.datasets.gated.add("acme/gated")
        asked = json.dumps([(case.hub_id, case.config, case.split) for case in CASES])
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {**clean, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-c", SCRIPT, str(folder), asked]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    found = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("answer:")]
    assert len(found) == len(CASES), done.stderr
    return found


@pytest.mark.parametrize(
    "index", range(len(CASES)), ids=lambda i: f"{CASES[i].hub_id}-{CASES[i].config}{CASES[i].split}"
)
def test_what_is_read_or_refused(answers: list[dict[str, Any]], index: int) -> None:
    case, answer = CASES[index], answers[index]
    if case.numbers is None:
        assert (answer.get("reason"), case.text in answer.get("message", "")) == (case.reason, True), answer
        return
    assert [int(content[1:]) for _, content in answer["rows"]] == list(case.numbers)
    if case.fetched:
        assert answer["fetched"] == case.fetched


@pytest.mark.parametrize("text", ["train", "train[:5]", "train[5%:]+test", "a.b-c[-3:]", "x[:10%](pct1_dropremainder)"])
def test_slices_that_can_be(text: str) -> None:
    check_split(text)


@pytest.mark.parametrize("text", ["train[", "train[:5", "train[a:b]", "+train", "train test", "train[1:2:3]"])
def test_slices_that_cannot_be(text: str) -> None:
    with pytest.raises(Invalid):
        check_split(text)
