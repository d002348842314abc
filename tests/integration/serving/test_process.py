"""Serving as its own process: it starts by its module, and a kill leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

import anneal
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.store import Store
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub
from tests.fixtures.serving import OPTIONS, ToyFiles

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(240)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def without_a_compiler(folder: Path) -> dict[str, str]:
    """The environment of a machine with no compiler, and with nothing that was compiled before; vLLM asks `lscpu`."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "lscpu").symlink_to(str(shutil.which("lscpu")))
    return {"PATH": str(programs), "CXX": "g++", "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}


async def test_it_serves_without_a_compiler_and_a_kill_takes_the_engine_along(
    tmp_path: Path, toy_files: ToyFiles
) -> None:
    digest = await asyncio.to_thread(Store(str(tmp_path / "store"), tmp_path / "cache").put_tree, toy_files.base)
    port = free_port()
    settings = {
        "ANNEAL_DATA_DIR": str(tmp_path),
        "ANNEAL_GRPC__PORT": str(port),
        "ANNEAL_ADDRESSES": json.dumps({"registry": "127.0.0.1:9"}),
        "ANNEAL_SERVING": OPTIONS.model_dump_json(),
        **without_a_compiler(tmp_path),
        "PYTHONPATH": str(Path(anneal.__file__).parents[1]),
    }
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "anneal.serving", env={**os.environ, **settings}, stdout=log, stderr=log
        )
    channel = open_aio_channel(f"127.0.0.1:{port}")
    try:
        await asyncio.wait_for(channel.channel_ready(), 60)
        request = pb.GenerateRequest(
            target=pb.InferenceTarget(base_model_digest=digest), prompt="x", sampling=pb.SamplingParams(max_tokens=2)
        )
        answer = await InferenceServiceStub(channel).Generate(request, timeout=120)
        assert answer.usage.completion_tokens == 2
        score = pb.ScoreRequest(target=request.target, prompt="x", continuation="y")
        assert (await InferenceServiceStub(channel).Score(score, timeout=120)).tokens
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
    finally:
        await channel.close()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert left == []
