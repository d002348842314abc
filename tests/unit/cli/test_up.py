"""Who holds a data folder, and what a person reads when it cannot be used."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from anneal.cli import monitoring, up
from anneal.cli.up import CannotStart, Local, alone_on, check_folder, state_of

Usage = namedtuple("Usage", "total used free")


def write_state(folder: Path) -> None:
    state = {"pid": os.getpid(), "grpc": "127.0.0.1:1", "http": "127.0.0.1:2"}
    (folder / up.STATE_FILE).write_text(json.dumps(state))


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    with alone_on(tmp_path):
        with pytest.raises(CannotStart, match="another `anneal up` starts or stops on"), alone_on(tmp_path):
            raise AssertionError("two hold it")
        write_state(tmp_path)
        assert state_of(tmp_path) is not None
        with (
            pytest.raises(CannotStart, match=f"already runs on .* \\(pid {os.getpid()}, 127.0.0.1:1\\)"),
            alone_on(tmp_path),
        ):
            raise AssertionError("two hold it")
    with alone_on(tmp_path):
        pass


def test_what_a_killed_one_wrote_is_not_believed(tmp_path: Path) -> None:
    write_state(tmp_path)  # its pid is another process's by now: this one's
    assert state_of(tmp_path) is None
    with alone_on(tmp_path):
        assert state_of(tmp_path) is None


def test_a_full_disk_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, up.MIN_FREE_BYTES - 1))
    with pytest.raises(CannotStart, match=r"^1023 MiB are free below .*; at least 1024 MiB are needed$"):
        check_folder(tmp_path)


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="cannot write to"):
        check_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "set ANNEAL_TOKENS, or bind to 127.0.0.1"),
        ({"ANNEAL_TOKENS": '["t"]'}, "set ANNEAL_GATEWAY__KEYS, or bind to 127.0.0.1"),
        ({"ANNEAL_TOKENS": '["t"]', "ANNEAL_METRICS__HOST": "0.0.0.0"}, "set ANNEAL_METRICS__PUBLIC=true"),
    ],
)
async def test_beyond_loopback_it_wants_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=says):
        await Local(tmp_path, host="0.0.0.0", grpc_port=0, http_port=0, model_folders=(), project="p").start()
    assert state_of(tmp_path) is None


def test_services_are_told_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNEAL_SERVING__MAX_ADAPTERS", "3")
    monkeypatch.setenv("ANNEAL_TEACHER__ATTEMPTS", "2")
    monkeypatch.setenv("ANNEAL_TRAINING__LOCAL_RAY", "false")
    made = local(tmp_path, None)
    assert made.options_of("serving").max_adapters == 3
    assert made.options_of("synthesis").attempts == 2
    assert made.options_of("training").local_ray, "here jobs train on the Ray of this process"
    monkeypatch.setenv("ANNEAL_CURATION__MAX_STEPS", "none")
    with pytest.raises(SystemExit, match="ANNEAL_CURATION__MAX_STEPS"):
        made.options_of("curation")


def local(folder: Path, prometheus_port: int | None) -> Local:
    return Local(folder, grpc_port=0, http_port=0, model_folders=(), project="p", prometheus_port=prometheus_port)


def test_prometheus_gets_a_page_of_metrics_that_asks_for_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local(tmp_path, None)._settings.metrics.port is None
    assert local(tmp_path, 0)._settings.metrics.port == 0
    monkeypatch.setenv("ANNEAL_METRICS__PORT", "7777")
    assert local(tmp_path, 0)._settings.metrics.port == 7777


async def test_without_prometheus_up_starts_none_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    asked, unasked = local(tmp_path, 0), local(tmp_path, None)
    await asked._watch()
    assert asked.watched() == monitoring.NOT_INSTALLED
    assert unasked.watched() is None
