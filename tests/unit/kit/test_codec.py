"""Jobs as operations, in a process that runs none of their services."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import any_pb2, empty_pb2

from anneal.kit.jobs import codec
from anneal.kit.jobs.reader import Job
from anneal.kit.jobs.states import State
from anneal.v1 import job_service_pb2 as pb

PACKAGE = Path(codec.__file__).parents[2]
FIND = """
import sys
import anneal.kit.jobs.codec
from google.protobuf import descriptor_pool
for name in sys.argv[1:]:
    descriptor_pool.Default().FindMessageTypeByName(name)
"""


def test_the_order_of_every_kind_of_job_can_be_shown_by_every_service() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.glob("*/bootstrap.py"))
    orders = [f"anneal.v1.{name}" for name in re.findall(r"request=pb\.(\w+)", text)]
    assert len(orders) >= 7
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", FIND, *orders], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("reason", "number"), [("node", 5), ("a_reason_of_a_later_release", 0)])
def test_what_a_job_waits_for_is_its_progress(reason: str, number: int) -> None:
    packed = any_pb2.Any()
    packed.Pack(empty_pb2.Empty())
    job = Job(
        name="projects/p/operations/train-1",
        project="projects/p",
        kind="train",
        state=State.RUNNING,
        attempt=1,
        failures=0,
        max_attempts=4,
        request=packed.SerializeToString(),
        request_id="",
        lease_until=0.0,
        not_before=0.0,
        last_sequence=1,
        progress=pb.Progress(done=3, total=10, unit="steps", message="training").SerializeToString(),
        result=None,
        error=None,
        last_failure="",
        pending_reason=reason,
        pending_text="waiting for a node: 0/1 nodes are available",
        create_time=0.0,
        start_time=0.0,
        end_time=None,
    )
    progress = codec.encode_metadata(job).progress
    assert (progress.done, progress.total, progress.unit) == (3, 10, "steps")
    assert (progress.message, progress.pending_reason) == ("waiting for a node: 0/1 nodes are available", number)
    working = codec.encode_metadata(replace(job, pending_reason="", pending_text="")).progress
    assert (working.message, working.pending_reason) == ("training", 0)
