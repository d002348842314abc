"""The process of one engine: `python -m anneal.serving.adapters.engine_host FD`.

vLLM has a process of its own, because on import it takes 17 s of the interpreter's lock on 2 cores, writes LD_PRELOAD
and more into the environment that every child would inherit, and because an engine that dies must take nobody along.
The socket FD carries `wire` messages. When standard input closes, the service is gone and so is this process.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import sys
import threading
import traceback
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from anneal.kit.errors import Invalid, Refusal
from anneal.serving.adapters import wire
from anneal.serving.domain.errors import EngineDown

if TYPE_CHECKING:
    from anneal.serving.adapters.vllm_engine import VllmEngine

_WATCH_S = 0.25


class Host:
    """Answers messages with one engine; every request is a task, and aborting it ends its generation."""

    def __init__(self, engine: VllmEngine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until told to stop, the service goes away, or the engine is dead."""
        watch = asyncio.create_task(self._watch())
        while line := await self._reader.readline():
            message = wire.decode_line(line)
            if message["op"] == "stop":
                break
            if message["op"] == "abort":
                if task := self._tasks.get(message["id"]):
                    task.cancel()
                continue
            task = asyncio.create_task(self._answer(message))
            self._tasks[message["id"]] = task
            task.add_done_callback(functools.partial(self._finish, message["id"]))
        for task in [watch, *self._tasks.values()]:
            task.cancel()

    def _finish(self, number: int, task: asyncio.Task[None]) -> None:
        """Forget a task; a bug in it is logged, and told without its text."""
        del self._tasks[number]
        if not task.cancelled() and (error := task.exception()):
            traceback.print_exception(error)
            self._writer.write(wire.encode_line({"id": number, "event": "failed", "reason": "INTERNAL"}))

    async def _watch(self) -> None:
        """Stop reading when the core has ended: what is left cannot answer anything."""
        while not self._engine.dead:
            await asyncio.sleep(_WATCH_S)
        await asyncio.sleep(_WATCH_S)  # requests that it ended tell so first
        self._reader.feed_eof()

    async def _answer(self, message: wire.Message) -> None:
        number = message["id"]
        try:
            async with aclosing(self._events(message)) as events:
                async for event in events:
                    await self._send({"id": number, **event})
            await self._send({"id": number, "event": "done"})
        except Refusal as refusal:
            await self._send({"id": number, **_describe(refusal)})

    async def _events(self, message: wire.Message) -> AsyncGenerator[wire.Message]:
        match message["op"]:
            case "generate":
                pieces = self._engine.generate(
                    wire.decode_prompt(message["prompt"]),
                    wire.decode_sampling(message["sampling"]),
                    wire.decode_adapter(message["adapter"]),
                    stream=message["stream"],
                    request_id=f"generate-{message['id']}",
                )
                async with aclosing(pieces):
                    async for piece in pieces:
                        yield {"event": "piece", **wire.encode_piece(piece)}
            case "score":
                scored = await self._engine.score(
                    wire.decode_prompt(message["prompt"]),
                    wire.decode_continuation(message["continuation"]),
                    wire.decode_adapter(message["adapter"]),
                    request_id=f"score-{message['id']}",
                )
                yield {"event": "scored", **wire.encode_scored(scored)}
            case "load":
                adapter = wire.decode_adapter(message["adapter"])
                assert adapter is not None
                await self._engine.load(adapter)
            case "unload":
                await self._engine.unload(message["slot"])
            case "metrics":
                from prometheus_client import generate_latest

                yield {"event": "metrics", "text": generate_latest().decode()}

    async def _send(self, message: wire.Message) -> None:
        self._writer.write(wire.encode_line(message))
        await self._writer.drain()


def _describe(refusal: Refusal) -> wire.Message:
    violations = refusal.violations if isinstance(refusal, Invalid) else ()
    return {
        "event": "failed",
        "reason": refusal.reason,
        "message": str(refusal),
        "facts": refusal.facts,
        "violations": list(violations),
    }


async def _serve(engine: VllmEngine, channel: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=channel, limit=wire.LINE_LIMIT_BYTES)
    writer.write(
        wire.encode_line(
            {
                "event": "ready",
                "info": {
                    "engine": engine.info.engine,
                    "dtype": engine.info.dtype,
                    "context_length": engine.info.context_length,
                    "facts": dict(engine.info.facts),
                },
            }
        )
    )
    await Host(engine, reader, writer).run()
    writer.close()


def _end_with_parent() -> None:
    # Not `sys.stdin.read()`: that holds a lock, which the forked core would wait for without end.
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> int:
    """Open the engine that the first message asks for, and serve it."""
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    channel = socket.socket(fileno=int(sys.argv[1]))
    from anneal.serving.adapters.vllm_engine import VllmEngine

    with channel.makefile("rb") as lines:
        options = wire.decode_line(lines.readline())
    try:
        engine = VllmEngine(options)
    except (ValueError, OSError, RuntimeError) as error:
        channel.sendall(wire.encode_line(_describe(EngineDown(f"the engine did not start: {error}"))))
        raise
    try:
        asyncio.run(_serve(engine, channel))
    finally:
        engine.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
