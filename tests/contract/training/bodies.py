"""The body of a training job as contract tests run it: the real one, with its one worker in the job's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.jobs.context import JobContext
from anneal.training import jobs
from anneal.training.adapters import ray_train
from anneal.training.order import RunOrder
from anneal.v1 import adapter_pb2, model_pb2
from anneal.v1 import training_service_pb2 as pb


def _run(order: RunOrder, *, watch: Callable[[], None], **_: Any) -> dict[str, Any]:
    import torch  # takes seconds, which jobs that train nothing do without

    from anneal.training.domain.world import Alone
    from anneal.training.run import expect_run, train_run

    torch.set_num_threads(1)
    if order.expect:
        expect_run(order, torch.device("cpu"))
    else:
        train_run(order, Alone(), torch.device("cpu"))
    watch()
    result: dict[str, Any] = json.loads((Path(order.folder) / "result.json").read_text())
    return result


def train(ctx: JobContext, request: pb.CreateTrainingJobRequest) -> adapter_pb2.AdapterVersion | model_pb2.Model:
    """Train without Ray; serving is where the options say."""
    ctx._addresses = {**ctx._addresses, "serving": ctx.options["serving"]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jobs, "connected", lambda _: nullcontext())
        patched.setattr(ray_train, "run", _run)
        return jobs.train(ctx, request)
