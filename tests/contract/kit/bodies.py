"""Bodies of jobs for the job engine's own tests; they run in real processes."""

from __future__ import annotations

import time
from pathlib import Path

from google.longrunning import operations_pb2, operations_pb2_grpc

from anneal.kit.errors import Invalid
from anneal.kit.jobs.context import JobContext
from anneal.kit.rpc.channels import open_channel
from anneal.kit.store_faults import BucketMissing, StoreUnreachable
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2


def work(ctx: JobContext, request: pb.CurateDatasetRequest) -> dataset_pb2.DatasetVersion:
    """Count to ten on disk, slowly where `sources[0]` says so; each number is written once over all attempts."""
    how = request.sources[0]
    if how == "refuse":
        raise Invalid.field("sources[0]", "asks to be refused")
    if how == "store away" and ctx.attempt < 3:
        raise StoreUnreachable("the store does not answer")
    if how == "store away for good":
        raise StoreUnreachable("the store does not answer")
    if how == "no bucket":
        raise BucketMissing("the bucket does not exist")
    if how == "crash":
        raise RuntimeError("a bug")
    if how == "full":
        Path("/dev/full").write_text("more than there is room for")
    if how == "hungry":
        taken = []
        while True:
            taken.append(b"x" * (64 << 20))
    if how == "dependent" and not (ctx.scratch / "back").exists():
        stub = operations_pb2_grpc.OperationsStub(open_channel("127.0.0.1:9"))  # the discard port: nothing listens
        stub.GetOperation(operations_pb2.GetOperationRequest(name="operations/any"), timeout=20)
    while how == "deaf":
        time.sleep(0.1)
        ctx.progress(1)
    notes = ctx.scratch / "notes"
    done = len(notes.read_text().split()) if notes.exists() else 0
    for i in range(done, 10):
        ctx.check()
        while how == "falls" and ctx.attempt == 1 and i == 1:
            time.sleep(0.05)
            if (ctx.scratch / "fall").exists():
                raise RuntimeError("what it needs is gone")
        with notes.open("a") as file:
            file.write(f"{i} ")
        ctx.progress(i + 1, 10, "numbers")
        ctx.count("rows", 1, verdict="kept", reason="")
        time.sleep({"slow": 0.2, "steady": 0.5, "slower": 1.0}.get(how, 0.0))
    ctx.log(f"attempt {ctx.attempt} is done")
    return dataset_pb2.DatasetVersion(digest=notes.read_text(), row_count=10)
