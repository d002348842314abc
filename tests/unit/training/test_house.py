"""Small parts of the service: what may be imported, what is reported, what is remembered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from anneal.kit.errors import Invalid
from anneal.kit.jobs.context import Cancelled, JobContext
from anneal.kit.store import Store
from anneal.training.adapters.hub_models import check_hub_id
from anneal.training.adapters.ray_runtime import LocalRay, RayDown, connected
from anneal.training.adapters.speeds import Speeds
from anneal.training.domain.base_model import open_base_model
from anneal.training.domain.errors import BaseUnusable
from anneal.training.domain.loop import StepDone, Validated
from anneal.training.errors import FolderNotAllowed
from anneal.training.following import Follower
from anneal.training.importing import check_folder, collect
from anneal.training.run import Journal, StopAsked
from anneal.v1.job_service_pb2 import JobEvent


def test_a_folder_below_an_allowed_one_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    assert check_folder(str(tmp_path / "models" / "a"), [str(tmp_path / "models")]) == tmp_path / "models" / "a"


def test_a_folder_elsewhere_may_not_not_even_by_a_link(tmp_path: Path) -> None:
    allowed = tmp_path / "models"
    allowed.mkdir()
    (tmp_path / "secret").mkdir()
    (allowed / "link").symlink_to(tmp_path / "secret")
    for path in (tmp_path / "secret", allowed / ".." / "secret", allowed / "link", tmp_path / "models-2"):
        with pytest.raises(FolderNotAllowed):
            check_folder(str(path), [str(allowed)])
    with pytest.raises(FolderNotAllowed):
        check_folder(str(allowed), [])
    with pytest.raises(Invalid):
        check_folder(str(allowed / "missing"), [str(allowed)])


@pytest.mark.parametrize("hub_id", ["name", "a/b/c", "a/../b", "a/b@", "http://x/y", "a b/c"])
def test_a_malformed_hub_id_is_refused(hub_id: str) -> None:
    with pytest.raises(Invalid):
        check_hub_id(hub_id)


def test_a_hub_id_may_carry_a_revision() -> None:
    assert check_hub_id("owner/na.me-1") == ("owner/na.me-1", None, "")
    assert check_hub_id("owner/name@refs/pr/1") == ("owner/name", "refs/pr/1", "")
    assert check_hub_id("owner/name:m.Q4_0.gguf") == ("owner/name", None, "m.Q4_0.gguf")
    assert check_hub_id("owner/name@v1:m.GGUF") == ("owner/name", "v1", "m.GGUF")


def test_no_pickle_no_code_and_no_link_out_is_taken(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "modeling.py",
        "x.pkl",
        "chat_template.jinja",
    ):
        (source / name).write_text("{}")
    (tmp_path / "outside.json").write_text("{}")
    (source / "outside.json").symlink_to(tmp_path / "outside.json")
    taken = collect(source, tmp_path / "taken", source)
    assert sorted(p.name for p in taken.iterdir()) == ["chat_template.jinja", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "config.json"),
        ({"config.json": "{}"}, "no weights in another format"),
        ({"config.json": "{}", "pytorch_model.bin": ""}, r"pytorch_model.bin \(pickled, never loaded\)"),
        ({"config.json": '{"auto_map": {}}', "model.safetensors": ""}, "brings its own code"),
        ({"config.json": '{"model_type": "nothing-known"}', "model.safetensors": ""}, "cannot be read"),
    ],
)
def test_an_unusable_base_says_why(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BaseUnusable, match=said):
        open_base_model(tmp_path)


def context(folder: Path) -> JobContext:
    return JobContext(
        operation="projects/p/operations/train-1",
        attempt=1,
        store=Store(str(folder / "store"), folder / "cache"),
        scratch=folder,
        addresses={},
        token="",
        options={},
    )


def line(step: int, **more: Any) -> str:
    event = {"step": step, "num_steps": 4, "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0, "num_tokens": 10}
    return json.dumps({**event, "tokens_per_s": 5.0, "memory_bytes": 100, **more}) + "\n"


def told(events: Iterable[JobEvent]) -> list[tuple[str, int, float]]:
    """Name, step and value of what was told; a counter has step 0."""
    return [(e.metric.name, e.metric.step, e.metric.value) for e in events if e.HasField("metric")]


VALIDATED = '{"step": 2, "loss": 0.5, "is_best": true}\n'
WHOLE = line(1) + line(2) + VALIDATED + line(3)


def test_each_step_is_reported_once_as_it_is_written(tmp_path: Path) -> None:
    journal = tmp_path / "events.jsonl"
    ctx = context(tmp_path)
    follow = Follower(ctx, tmp_path)
    follow()  # nothing is written yet
    journal.write_text(line(1) + line(2) + VALIDATED + line(3)[:10])
    follow()
    events = ctx.take_events()
    assert [value for name, _, value in told(events) if name == "tokens"] == [10, 10]
    assert [(step, value) for name, step, value in told(events) if name == "validation_loss"] == [(2, 0.5)]
    # the worker was killed in the middle of that line, and does steps 2 and 3 once more
    with journal.open("a") as file:
        file.write("\n" + line(2) + VALIDATED + line(3))
    follow()
    assert {(name, step) for name, step, _ in told(ctx.take_events())} == {
        *((name, 3) for name in ("train_loss", "grad_norm", "learning_rate", "tokens_per_second", "memory_bytes")),
        ("tokens", 0),
    }


def test_a_new_attempt_tells_what_the_service_lacks_and_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(WHOLE)
    first = context(tmp_path)
    Follower(first, tmp_path)()
    events = first.take_events()
    expected = told(events)
    assert [step for name, step, _ in expected if name == "train_loss"] == [1, 2, 3]
    # The process is killed when the service has stored the first `stored` events, whatever it had handed over.
    for stored in range(len(events) + 1):
        second = context(tmp_path)
        Follower(second, tmp_path, events[:stored])()
        assert told(events[:stored]) + told(second.take_events()) == expected


def test_a_follower_stops_when_the_job_is_cancelled(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.cancel()
    with pytest.raises(Cancelled):
        Follower(ctx, tmp_path)()


def test_the_journal_of_rank_0_carries_speed_and_stops_when_asked(tmp_path: Path) -> None:
    ticks = iter([0.0, 2.0, 3.0, 4.0])
    journal = Journal(tmp_path, torch.device("cpu"), clock=lambda: next(ticks))
    journal.report(StepDone(1, 4, 1.0, 0.1, 1.0, 10, 5))
    journal.report(Validated(1, 0.5, 5, True))
    assert json.loads((tmp_path / "events.jsonl").read_text().splitlines()[0])["tokens_per_s"] == 5.0
    assert journal.tokens_per_s == pytest.approx(10 / 3)
    (tmp_path / "stop").touch()
    with pytest.raises(StopAsked):
        journal.report(StepDone(2, 4, 1.0, 0.1, 1.0, 10, 5))


def test_a_line_that_a_killed_worker_left_half_written_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(line(1) + line(2)[:20])
    Journal(tmp_path, torch.device("cpu")).report(StepDone(2, 4, 1.0, 0.1, 1.0, 10, 5))
    ctx = context(tmp_path)
    Follower(ctx, tmp_path)()
    assert [step for name, step, _ in told(ctx.take_events()) if name == "train_loss"] == [1, 2]


def test_speeds_are_remembered_by_base_and_method(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    assert speeds.get("sha256:a", "lora") is None
    speeds.put("sha256:a", "lora", 100.0)
    speeds.put("sha256:a", "full", 50.0)
    assert (speeds.get("sha256:a", "lora"), speeds.get("sha256:a", "full")) == (100.0, 50.0)
    (tmp_path / "speeds.json").write_text("{broken")
    assert speeds.get("sha256:a", "lora") is None


def test_a_runtime_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(RayDown), connected({"ray_home": str(tmp_path / "gone")}):
        pass


def test_stopping_what_never_started_is_nothing(tmp_path: Path) -> None:
    LocalRay(tmp_path, num_cpus=1, object_store_bytes=100 << 20).stop()
    assert list(tmp_path.iterdir()) == []
