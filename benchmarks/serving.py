"""Serving, in tokens/s at 1, 8 and 32 streams: over gRPC, over the gateway, from vLLM's own server, and bare.

One engine at a time, each in processes of its own, with the same options, the same requests and LoRA enabled. The model
has random weights (4 layers, width 256), so that an answer is as long as it may be; what is measured is the way, not
the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, keep

STREAMS = (1, 8, 32)
TOKENS = 64
ROUNDS = 3
PROMPT = "def copy(source, target, *, follow_symlinks=True):\n    "
USER = "bench"
MAX_ADAPTERS, MAX_RANK, MAX_SEQUENCES, MAX_BATCHED_TOKENS, KV_CACHE_BYTES = 2, 8, 32, 2048, 256 << 20
START_S = 240.0

Ask = Callable[[int, int], Awaitable[int]]
"""Asks for an answer of so many tokens with a seed; returns how many came."""
ANNOUNCED = "bench-serving "


async def measure(ask: Ask) -> dict[int, float]:
    """Tokens/s by number of streams, each after a warm-up of its own: the best of some rounds, against noise."""
    rates = {}
    for streams in STREAMS:
        await asyncio.gather(*(ask(8, seed) for seed in range(streams)))
        rounds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            counts = await asyncio.gather(*(ask(TOKENS, seed) for seed in range(streams)))
            rounds.append(sum(counts) / (time.perf_counter() - start))
        rates[streams] = max(rounds)
    return rates


# -- the ways ----------------------------------------------------------------------------------------------------


def bare(base: str, adapter: str) -> dict[str, dict[int, float]]:
    """The engine without any server: `AsyncLLM` as serving sets it up, asked in its own process."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from anneal.serving.adapters.vllm_engine import VllmEngine
    from anneal.serving.domain.answers import AdapterRef, TextPrompt
    from anneal.serving.domain.sampling import Sampling

    engine = VllmEngine(
        {
            "base": base,
            "digest": "bench",
            "max_adapters": MAX_ADAPTERS,
            "max_rank": MAX_RANK,
            "max_sequences": MAX_SEQUENCES,
            "max_batched_tokens": MAX_BATCHED_TOKENS,
            "context_length": 0,
            "kv_cache_bytes": KV_CACHE_BYTES,
            "dtype": "auto",
            "eager": True,
        }
    )

    def asker(ref: AdapterRef | None) -> Ask:
        async def ask(tokens: int, seed: int) -> int:
            sampling = Sampling(max_tokens=tokens, seed=seed)
            request_id = f"{time.perf_counter_ns()}-{seed}"
            pieces = engine.generate(TextPrompt(PROMPT), sampling, ref, stream=True, request_id=request_id)
            return sum([piece.token_count async for piece in pieces])

        return ask

    async def run() -> dict[str, dict[int, float]]:
        ref = AdapterRef("bench-adapter", 1, adapter)
        await engine.load(ref)
        return {"base": await measure(asker(None)), "adapter": await measure(asker(ref))}

    rates = asyncio.run(run())
    engine.shutdown()
    return rates


async def over_grpc(address: str, base_digest: str, deployment: str) -> dict[str, dict[int, float]]:
    """`InferenceService.StreamGenerate`."""
    from anneal.kit.rpc.channels import open_aio_channel
    from anneal.v1 import inference_service_pb2 as pb
    from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub

    channel = open_aio_channel(address)
    stub = InferenceServiceStub(channel)

    def asker(target: pb.InferenceTarget) -> Ask:
        async def ask(tokens: int, seed: int) -> int:
            sampling = pb.SamplingParams(max_tokens=tokens, seed=seed)
            request = pb.GenerateRequest(target=target, prompt=PROMPT, sampling=sampling)
            last = [piece async for piece in stub.StreamGenerate(request)][-1]
            return last.usage.completion_tokens

        return ask

    try:
        return {
            "base": await measure(asker(pb.InferenceTarget(base_model_digest=base_digest))),
            "adapter": await measure(asker(pb.InferenceTarget(deployment=deployment, split_key=USER))),
        }
    finally:
        await channel.close()


async def over_http(address: str, base: str, adapter: str) -> dict[str, dict[int, float]]:
    """`POST /v1/completions` with the official client, of the gateway or of vLLM's own server."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0, timeout=300) as client:

        def asker(model: str) -> Ask:
            async def ask(tokens: int, seed: int) -> int:
                stream = await client.completions.create(
                    model=model,
                    prompt=PROMPT,
                    max_tokens=tokens,
                    temperature=1.0,
                    seed=seed,
                    user=USER,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                usages = [chunk.usage async for chunk in stream if chunk.usage]
                return usages[-1].completion_tokens

            return ask

        return {"base": await measure(asker(base)), "adapter": await measure(asker(adapter))}


# -- what is measured, each in its own process ---------------------------------------------------------------------


async def serve(folder: Path) -> None:
    """Registry, serving and gateway on free ports; says where, then serves until its standard input closes."""
    from anneal.gateway import bootstrap as gateway
    from anneal.gateway.settings import GatewayOptions
    from anneal.kit import logs
    from anneal.kit.options import EngineOptions
    from anneal.kit.rpc.server import Host
    from anneal.kit.settings import ServiceSettings
    from anneal.registry.bootstrap import build as build_registry
    from anneal.serving.bootstrap import build as build_serving
    from anneal.serving.settings import ServingOptions
    from tests.fixtures.serving import ServingWorld, ToyFiles, deploy_toys

    logs.configure(json_lines=False, level="ERROR")
    options = ServingOptions(
        max_adapters=MAX_ADAPTERS,
        max_sequences=MAX_SEQUENCES,
        max_batched_tokens=MAX_BATCHED_TOKENS,
        kv_cache_bytes=KV_CACHE_BYTES,
    )
    local = ("registry", "serving")
    settings = ServiceSettings(data_dir=folder / "data", log_json=False, engine=EngineOptions(max_rank=MAX_RANK))
    host = Host(settings, [build_registry, lambda runtime: build_serving(runtime, options)], local=local)
    await host.start()
    server, http = await gateway.start(host.runtime, options=GatewayOptions(project="demo"))
    base = await asyncio.to_thread(host.store.put_tree, folder / "base")
    adapters = [await asyncio.to_thread(host.store.put_tree, folder / f"adapter-{i}") for i in (1, 2)]
    world = ServingWorld(host, ToyFiles(folder / "base", base, ()), tuple(adapters))
    where = {"grpc": host.address, "http": http, "base": base, "deployment": await deploy_toys(world)}
    print(ANNOUNCED + json.dumps(where), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
    await host.stop()


@contextlib.contextmanager
def started(command: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, ended with everything it started."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=output, text=True, start_new_session=True, **more
        )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1 if "vllm" in " ".join(command) else 30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a process says on its standard output in one marked line."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ANNOUNCED):
            found: dict[str, Any] = json.loads(line.removeprefix(ANNOUNCED))
            return found
    raise SystemExit("bench: the process ended before it was ready")


def vllm_server(folder: Path, port: int) -> list[str]:
    """The command of vLLM's own OpenAI server, with what serving gives its engine."""
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
        *("--model", str(folder / "base"), "--served-model-name", "toy", "--dtype", "float32", "--enforce-eager"),
        *("--enable-lora", "--max-loras", str(MAX_ADAPTERS), "--max-lora-rank", str(MAX_RANK)),
        *("--lora-modules", f"bot={folder / 'adapter-1'}", "--max-num-seqs", str(MAX_SEQUENCES)),
        *("--max-num-batched-tokens", str(MAX_BATCHED_TOKENS), "--kv-cache-memory-bytes", str(KV_CACHE_BYTES)),
        *("--distributed-executor-backend", "uni"),
    ]


async def wait_for_http(address: str) -> None:
    """Wait until a server answers `/health`."""
    host, port = address.split(":")
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                status = (await reader.readline()).split()[1:2]
                writer.close()
                if status == [b"200"]:
                    return
            await asyncio.sleep(0.5)


# -- the run -----------------------------------------------------------------------------------------------------


async def run(folder: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Every way, one engine after the other."""
    from anneal.kit.store import Store
    from tests.fixtures.toy_model import make_adapter, make_base

    base = make_base(folder / "base")
    digest = Store(str(folder / "store"), folder / "cache").put_tree(base)
    for i in (1, 2):
        make_adapter(base, folder / f"adapter-{i}", base_digest=digest, seed=i)
    threads = str(len(os.sched_getaffinity(0)))
    # The same for every way; see `EngineProcess` for why threads must not spin.
    env = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    env["VLLM_LOGGING_LEVEL"] = "WARNING"
    own = [sys.executable, "-m", "benchmarks.serving"]
    found: dict[str, dict[str, dict[int, float]]] = {}
    command = [*own, "bare", str(base), str(folder / "adapter-1")]
    with started(command, folder / "bare.log", stdout=subprocess.PIPE, env=env) as process:
        rates = announced(process)
        found["bare engine"] = {who: {int(n): rate for n, rate in by.items()} for who, by in rates.items()}
    with started([*own, "serve", str(folder)], folder / "serve.log", stdout=subprocess.PIPE, env=env) as process:
        where = announced(process)
        found["gRPC"] = await over_grpc(where["grpc"], where["base"], where["deployment"])
        found["gateway"] = await over_http(where["http"], "toy", "support-bot")
    port = free_port()
    vllm_env = {**env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with started(vllm_server(folder, port), folder / "vllm.log", stdout=subprocess.DEVNULL, env=vllm_env):
        await wait_for_http(f"127.0.0.1:{port}")
        found["vLLM's server"] = await over_http(f"127.0.0.1:{port}", "toy", "bot")
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def figures(found: dict[str, dict[str, dict[int, float]]]) -> list[Figure]:
    """Rates, and their ratios to the bare engine and to vLLM's server of the same run."""
    made = []
    for who, whom in (("base", "base model"), ("adapter", "with adapter")):
        for streams in STREAMS:
            label = f"{streams} stream{'s' if streams > 1 else ''}, {whom}"
            made += [Figure(f"{way}, {label}", round(by[who][streams], 1), "tokens/s") for way, by in found.items()]
            for way, other in (("gRPC", "bare engine"), ("gateway", "bare engine"), ("gateway", "vLLM's server")):
                ratio = found[way][who][streams] / found[other][who][streams]
                made.append(Figure(f"{way} / {other}, {label}", round(ratio, 3), "x"))
    return made


def main() -> None:
    """Measure everything, or be one of the processes that are measured."""
    if sys.argv[1:2] == ["bare"]:
        print(ANNOUNCED + json.dumps(bare(*sys.argv[2:4])), flush=True)
        return
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
        return
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as folder:
        found = asyncio.run(run(Path(folder)))
    keep(
        "serving",
        figures(found),
        {
            "command": "python -m benchmarks.serving",
            "tokens_per_answer": TOKENS,
            "rounds": f"best of {ROUNDS}",
            "prompt_characters": len(PROMPT),
            "model": "random weights, 4 layers, width 256, vocabulary 4096, float32; LoRA rank 8 on all linear",
            "engine_threads": len(os.sched_getaffinity(0)),
            "max_sequences": MAX_SEQUENCES,
        },
    )


if __name__ == "__main__":
    main()
