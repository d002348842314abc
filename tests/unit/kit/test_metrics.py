"""What every process exports, beside what its RPCs and jobs count as they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from anneal.kit import metrics as kit_metrics
from anneal.kit.disk import Room
from anneal.kit.metrics import DiskSpace, Metrics, Running

JOB = {"kind": "train", "operation": "projects/p/operations/train-1"}


def test_a_kind_of_job_is_shown_from_zero() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    assert value("anneal_job_transitions_total", {"kind": "train", "state": "FAILED"}) is None
    metrics.expect_jobs("train")
    assert value("anneal_job_transitions_total", {"kind": "train", "state": "FAILED"}) == 0
    assert value("anneal_job_seconds_count", {"kind": "train", "state": "CANCELLED"}) == 0
    assert value("anneal_job_seconds_count", {"kind": "train", "state": "RUNNING"}) is None


def test_only_running_jobs_are_shown() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    metrics.show_running({("train", JOB["operation"]): Running(heartbeat_age_s=3.0, stall_s=40.0)})
    assert value("anneal_job_heartbeat_age_seconds", JOB) == 3
    assert value("anneal_job_stall_seconds", JOB) == 40
    metrics.show_running({})
    assert value("anneal_job_heartbeat_age_seconds", JOB) is None
    assert value("anneal_job_stall_seconds", JOB) is None


def test_the_room_on_disks_is_read_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = {tmp_path: Room(100, 30), tmp_path / "store": Room(50, 50)}
    monkeypatch.setattr(kit_metrics, "room_of", rooms.__getitem__)
    registry = CollectorRegistry()
    registry.register(DiskSpace({"data": tmp_path, "store": tmp_path / "store"}))
    rooms[tmp_path] = Room(100, 20)
    assert registry.get_sample_value("anneal_disk_free_bytes", {"folder": "data"}) == 20
    assert registry.get_sample_value("anneal_disk_size_bytes", {"folder": "data"}) == 100
    assert registry.get_sample_value("anneal_disk_free_bytes", {"folder": "store"}) == 50


def test_a_disk_that_cannot_be_asked_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Path) -> Room:
        raise OSError("stale file handle")

    monkeypatch.setattr(kit_metrics, "room_of", gone)
    registry = CollectorRegistry()
    registry.register(DiskSpace({"data": tmp_path}))
    assert registry.get_sample_value("anneal_disk_free_bytes", {"folder": "data"}) is None


def test_the_process_and_its_release_are_named() -> None:
    samples = {sample.name: sample for family in Metrics().registry.collect() for sample in family.samples}
    assert samples["process_resident_memory_bytes"].value > 0
    assert set(samples["anneal_build_info"].labels) == {"version"}
