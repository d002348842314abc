"""An engine in a process of its own, seen from the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import anneal
from anneal.kit.errors import Invalid
from anneal.serving.adapters import wire
from anneal.serving.domain.answers import AdapterRef, Continuation, EngineInfo, Piece, Prompt, Scored
from anneal.serving.domain.errors import EngineDown, PromptTooLong
from anneal.serving.domain.sampling import Sampling

_STOP_S = 10.0
"""vLLM's own shutdown takes 1 to 4 s."""


class EngineProcess:
    """Implements `domain.engine.Engine` over the lines of `wire`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        info: EngineInfo,
        on_death: Callable[[], None],
    ) -> None:
        self.info = info
        self._process = process
        self._writer = writer
        self._on_death = on_death
        self._answers: dict[int, asyncio.Queue[wire.Message | None]] = {}
        self._last_id = 0
        self._alive = True
        self._stopping = False
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def alive(self) -> bool:
        """Whether the process still answers."""
        return self._alive

    @property
    def pid(self) -> int:
        """The process, which leads a group with everything it starts."""
        return self._process.pid

    @classmethod
    async def start(
        cls,
        options: Mapping[str, Any],
        *,
        log: Path,
        threads: int,
        timeout_s: float,
        on_death: Callable[[], None] = lambda: None,
    ) -> EngineProcess:
        """Start a process and wait until its engine has loaded the base.

        Args:
            options: what `VllmEngine` takes.
            log: file for what vLLM prints.
            threads: threads of one computation on a CPU.
            timeout_s: longest wait.
            on_death: called once when it ends without having been told to.

        Raises:
            EngineDown: it did not start; the message holds its own last words.
        """
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "anneal.serving.adapters.engine_host",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=_environment(threads),
            )
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(sock=ours, limit=wire.LINE_LIMIT_BYTES)
                writer.write(wire.encode_line(options))
                line = await reader.readline()
            message = wire.decode_line(line) if line else {}
            if message.get("event") != "ready":
                raise EngineDown(f"{message.get('message') or 'the engine did not start'} (its log: {log.name})")
        except BaseException as error:
            _kill_group(process.pid)
            await process.wait()
            ours.close()
            if isinstance(error, TimeoutError):
                raise EngineDown(f"the engine did not start within {timeout_s:g} s", retry_after_s=5.0) from error
            raise
        return cls(process, reader, writer, EngineInfo(**message["info"]), on_death)

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: AdapterRef | None, *, stream: bool
    ) -> AsyncGenerator[Piece]:
        """See `Engine.generate`."""
        request = {
            "op": "generate",
            "prompt": wire.encode_prompt(prompt),
            "sampling": wire.encode_sampling(sampling),
            "adapter": wire.encode_adapter(adapter),
            "stream": stream,
        }
        async with contextlib.aclosing(self._ask(request)) as events:
            async for event in events:
                yield wire.decode_piece(event)

    async def score(self, context: Prompt, continuation: Continuation, adapter: AdapterRef | None) -> Scored:
        """See `Engine.score`."""
        request = {
            "op": "score",
            "prompt": wire.encode_prompt(context),
            "continuation": wire.encode_continuation(continuation),
            "adapter": wire.encode_adapter(adapter),
        }
        return wire.decode_scored(await self._ask_once(request))

    async def load(self, adapter: AdapterRef) -> None:
        """See `Engine.load`."""
        await self._ask_once({"op": "load", "adapter": wire.encode_adapter(adapter)})

    async def unload(self, slot: int) -> None:
        """See `Engine.unload`."""
        await self._ask_once({"op": "unload", "slot": slot})

    async def metrics(self) -> str:
        """See `Engine.metrics`."""
        return str((await self._ask_once({"op": "metrics"}))["text"])

    async def stop(self) -> None:
        """Ask it to end; kill what is left of its group."""
        self._stopping = True
        if self._alive:
            self._writer.write(wire.encode_line({"op": "stop"}))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        _kill_group(self._process.pid)
        await self._process.wait()
        await self._reading

    async def _ask_once(self, request: wire.Message) -> wire.Message:
        answer: wire.Message = {}
        async for event in self._ask(request):
            answer = event
        return answer

    async def _ask(self, request: wire.Message) -> AsyncGenerator[wire.Message]:
        """Send a request and yield its events; leaving early aborts it."""
        self._last_id += 1
        number = self._last_id
        queue: asyncio.Queue[wire.Message | None] = asyncio.Queue()
        if not self._alive:
            raise _ended()
        self._answers[number] = queue
        over = False
        try:
            self._writer.write(wire.encode_line({"id": number, **request}))
            while True:
                event = await queue.get()
                if event is None or event["event"] in ("done", "failed"):
                    over = True
                    if event is None:
                        raise _ended()
                    if event["event"] == "failed":
                        raise _error(event)
                    return
                yield event
        finally:
            del self._answers[number]
            if not over and self._alive:
                self._writer.write(wire.encode_line({"id": number, "op": "abort"}))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                event = wire.decode_line(line)
                if queue := self._answers.get(event["id"]):
                    queue.put_nowait(event)
        except ConnectionError:
            pass
        self._alive = False
        for queue in self._answers.values():
            queue.put_nowait(None)
        self._writer.close()
        if not self._stopping:
            _kill_group(self._process.pid)
            self._on_death()


def _environment(threads: int) -> dict[str, str]:
    """The environment of the engine: ours without our secrets, set for a local and silent vLLM."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANNEAL_")}
    package_root = str(Path(anneal.__file__).parents[1])
    paths = [package_root, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": str(threads),
        # Threads that spin while they wait starve each other as soon as anything else runs on the machine: with two of
        # them on two busy cores, 6-60 tokens/s at one stream against 130-160.
        "OMP_WAIT_POLICY": kept.get("OMP_WAIT_POLICY", "passive"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": kept.get("VLLM_LOGGING_LEVEL", "WARNING"),
    }


def _error(event: wire.Message) -> Exception:
    if event["reason"] == "INTERNAL":
        return RuntimeError("the engine's process met a bug; its log has the trace")
    violations = [(path, why) for path, why in event["violations"]]
    facts = dict(event["facts"])
    if event["reason"] == PromptTooLong.reason:
        return PromptTooLong(event["message"], violations=violations, **facts)
    if event["reason"] == Invalid.reason:
        return Invalid(event["message"], violations=violations, **facts)
    return EngineDown(event["message"], retry_after_s=5.0, **facts)


def _ended() -> EngineDown:
    return EngineDown("the engine has ended; it is started again", retry_after_s=5.0)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
