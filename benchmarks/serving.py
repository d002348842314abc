"""Serving, in tokens/s at 1, 8 and 32 streams: over gRPC, over the gateway, from vLLM's own server, and bare.

One engine at a time, each in processes of its own, with the same options, the same requests and LoRA enabled. The model
has random weights (4 layers, width 256), so that an answer is as long as it may be; what is measured is the way, not
the model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from anneal.serving.settings import ServingOptions
from benchmarks.processes import ANNOUNCED, BenchFailed, announced, free_port, started, wait_for_http
from benchmarks.results import Figure, Options, keep, options_of, parser

PROMPT = "def copy(source, target, *, follow_symlinks=True):\n    "
USER = "bench"
MAX_ADAPTERS, MAX_RANK, MAX_SEQUENCES, MAX_BATCHED_TOKENS, KV_CACHE_BYTES = 2, 8, 32, 2048, 256 << 20


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked: numbers of streams, tokens of an answer, and rounds of which the best counts."""

    streams: tuple[int, ...]
    tokens: int
    rounds: int


FULL, SMALL = Size((1, 8, 32), 64, 3), Size((1, 2), 4, 1)
Ask = Callable[[int, int], Awaitable[int]]
"""Asks for an answer of so many tokens with a seed; returns how many came."""


def engine_options() -> ServingOptions:
    """The options of every engine that is measured, whoever starts it."""
    return ServingOptions(
        max_adapters=MAX_ADAPTERS,
        max_sequences=MAX_SEQUENCES,
        max_batched_tokens=MAX_BATCHED_TOKENS,
        kv_cache_bytes=KV_CACHE_BYTES,
        eager=True,
    )


async def measure(ask: Ask, size: Size) -> dict[int, float]:
    """Tokens/s by number of streams, each after a warm-up of its own: the best of some rounds, against noise."""
    rates = {}
    for streams in size.streams:
        await asyncio.gather(*(ask(8, seed) for seed in range(streams)))
        rounds = []
        for _ in range(size.rounds):
            start = time.perf_counter()
            counts = await asyncio.gather(*(ask(size.tokens, seed) for seed in range(streams)))
            rounds.append(sum(counts) / (time.perf_counter() - start))
        rates[streams] = max(rounds)
    return rates


# -- the ways ----------------------------------------------------------------------------------------------------


def bare(base: str, adapter: str, size: Size) -> dict[str, dict[int, float]]:
    """The engine without any server: `AsyncLLM` as serving sets it up, asked in its own process."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from anneal.serving.adapters.vllm_engine import VllmEngine
    from anneal.serving.domain.answers import AdapterRef, TextPrompt
    from anneal.serving.domain.sampling import Sampling

    engine = VllmEngine(engine_options().of_engine(Path(base), "bench", MAX_RANK))

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
        return {"base": await measure(asker(None), size), "adapter": await measure(asker(ref), size)}

    rates = asyncio.run(run())
    engine.shutdown()
    return rates


async def over_grpc(address: str, base_digest: str, deployment: str, size: Size) -> dict[str, dict[int, float]]:
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
            "base": await measure(asker(pb.InferenceTarget(base_model_digest=base_digest)), size),
            "adapter": await measure(asker(pb.InferenceTarget(deployment=deployment, split_key=USER)), size),
        }
    finally:
        await channel.close()


async def over_http(address: str, base: str, adapter: str, size: Size) -> dict[str, dict[int, float]]:
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

        return {"base": await measure(asker(base), size), "adapter": await measure(asker(adapter), size)}


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
    from tests.fixtures.serving import ServingWorld, ToyFiles, deploy_toys

    logs.configure(json_lines=False, level="ERROR")
    options = engine_options()
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


# -- the run -----------------------------------------------------------------------------------------------------


async def run(folder: Path, options: Options) -> dict[str, dict[str, dict[int, float]]]:
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
    size = SMALL if options.small else FULL
    own = [sys.executable, "-m", "benchmarks.serving", *options.words]
    found: dict[str, dict[str, dict[int, float]]] = {}
    command = [*own, "bare", str(base), str(folder / "adapter-1")]
    log = folder / "bare.log"
    with started(command, log, stdout=subprocess.PIPE, env=env) as process:
        rates = announced(process, log)
        found["bare engine"] = {who: {int(n): rate for n, rate in by.items()} for who, by in rates.items()}
    log = folder / "serve.log"
    with started([*own, "serve", str(folder)], log, stdout=subprocess.PIPE, env=env) as process:
        where = announced(process, log)
        found["gRPC"] = await over_grpc(where["grpc"], where["base"], where["deployment"], size)
        found["gateway"] = await over_http(where["http"], "toy", "support-bot", size)
    port = free_port()
    vllm_env = {**env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    log = folder / "vllm.log"
    with started(vllm_server(folder, port), log, stdout=subprocess.DEVNULL, env=vllm_env) as process:
        await wait_for_http(f"127.0.0.1:{port}", process, log)
        found["vLLM's server"] = await over_http(f"127.0.0.1:{port}", "toy", "bot", size)
    return found


def figures(found: dict[str, dict[str, dict[int, float]]]) -> list[Figure]:
    """Rates, and their ratios to the bare engine and to vLLM's server of the same run."""
    made = []
    for who, whom in (("base", "base model"), ("adapter", "with adapter")):
        for streams in sorted(found["bare engine"][who]):
            label = f"{streams} stream{'s' if streams > 1 else ''}, {whom}"
            made += [Figure(f"{way}, {label}", round(by[who][streams], 1), "tokens/s") for way, by in found.items()]
            for way, other in (("gRPC", "bare engine"), ("gateway", "bare engine"), ("gateway", "vLLM's server")):
                ratio = found[way][who][streams] / found[other][who][streams]
                made.append(Figure(f"{way} / {other}, {label}", round(ratio, 3), "x"))
    return made


def main() -> int:
    """Measure everything, or be one of the processes that are measured."""
    arguments = parser(__doc__)
    arguments.add_argument("process", nargs="*", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    options = options_of(arguments, chosen)
    size = SMALL if options.small else FULL
    if chosen.process[:1] == ["bare"]:
        print(ANNOUNCED + json.dumps(bare(chosen.process[1], chosen.process[2], size)), flush=True)
        return 0
    if chosen.process[:1] == ["serve"]:
        asyncio.run(serve(Path(chosen.process[1])))
        return 0
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as folder:
        try:
            found = asyncio.run(run(Path(folder), options))
        except BenchFailed as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    keep(
        "serving",
        figures(found),
        {
            "command": "python -m benchmarks.serving",
            "tokens_per_answer": size.tokens,
            "rounds": f"best of {size.rounds}",
            "prompt_characters": len(PROMPT),
            "model": "random weights, 4 layers, width 256, vocabulary 4096, float32; LoRA rank 8 on all linear",
            "engine_threads": len(os.sched_getaffinity(0)),
            "max_sequences": MAX_SEQUENCES,
        },
        options,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
