"""The engines of a replica: one per base model, started by its first request and kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import perf_counter

from anneal.kit import logs
from anneal.kit.errors import Missing, Refusal
from anneal.serving.domain.engine import Engine
from anneal.serving.domain.errors import EngineBusy, EngineDown, ModelMissing, ModelRefused
from anneal.serving.meters import Meters, Occupancy, short
from anneal.serving.served_base import Files, Limits, ServedBase, Trees

_RESTART_WAIT_S = (0.0, 1.0, 5.0, 15.0, 60.0)
_METRICS_S = 1.0
_DRAIN_POLL_S = 0.05

Launch = Callable[[str, Path, Callable[[], None]], Awaitable[Engine]]
"""Starts an engine: base digest, its folder, and whom to tell when it ends unasked."""


class Engines:
    """Starts, keeps, restarts and stops engines."""

    def __init__(
        self,
        launch: Launch,
        trees: Trees,
        files: Files,
        meters: Meters,
        limits: Limits,
        on_health: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._launch, self._trees, self._files, self._meters = launch, trees, files, meters
        self._limits = limits
        self._on_health = on_health
        self._served: dict[str, ServedBase] = {}  # in order of last use
        self._starting = asyncio.Lock()
        self._starts: dict[str, asyncio.Task[ServedBase]] = {}
        self._restarts: set[asyncio.Task[None]] = set()  # a base may die again during its restart
        self._metrics_texts: dict[str, str] = {}
        self._polling: asyncio.Task[None] | None = None
        self._log = logs.logger("engines")

    def served(self) -> list[ServedBase]:
        """The bases whose engines run."""
        return [base for base in self._served.values() if base.engine.alive]

    def metrics_texts(self) -> list[str]:
        """What the engines said about themselves, a second ago or so."""
        return list(self._metrics_texts.values())

    def occupancies(self) -> list[Occupancy]:
        """What each engine that runs holds; asked from other threads, too."""
        return [base.occupancy() for base in list(self._served.values()) if base.engine.alive]

    async def get(self, digest: str) -> ServedBase:
        """The served base, started when it is not there; the first caller waits for the start and so do the others.

        Raises:
            ModelMissing, ModelRefused: the store has no such model, or it cannot be served.
            EngineBusy: `max_engines` others answer requests.
            EngineDown: it did not start.
        """
        base = self._served.get(digest)
        if base is None or not base.engine.alive:
            if digest not in self._starts:
                self._starts[digest] = asyncio.create_task(self._start(digest))
                self._starts[digest].add_done_callback(lambda task: self._started(digest, task))
            # A caller whose time is up leaves, and the start goes on for the next one.
            base = await asyncio.shield(self._starts[digest])
        self._served[digest] = self._served.pop(digest, base)
        return base

    async def stop(self, drain_s: float = 0.0) -> None:
        """Stop every engine, after their requests ended or `drain_s` seconds passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while any(base.requests for base in self.served()):
                    await asyncio.sleep(_DRAIN_POLL_S)
        tasks = [*self._restarts, *self._starts.values(), *([self._polling] if self._polling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(base.engine.stop() for base in self._served.values()))
        self._served.clear()
        self._meters.engines.set(0)

    def _started(self, digest: str, task: asyncio.Task[ServedBase]) -> None:
        del self._starts[digest]
        if not task.cancelled() and (error := task.exception()):
            self._log.error("engine did not start", base=digest, why=str(error))

    async def _start(self, digest: str) -> ServedBase:
        async with self._starting:  # one at a time: each may have to make room
            base = await self._start_engine(digest)
        await self._on_health(all(other.engine.alive for other in self._served.values()))
        return base

    async def _start_engine(self, digest: str) -> ServedBase:
        path, layers = await asyncio.to_thread(self._fetch, digest)
        await self._make_room(digest)
        start = perf_counter()
        engine = await self._launch(digest, path, lambda: self._died(digest))
        self._meters.engine_start.labels(short(digest)).observe(perf_counter() - start)
        self._log.info("engine started", base=digest, engine=engine.info.engine, seconds=perf_counter() - start)
        base = ServedBase(
            digest,
            engine,
            layers,
            engine_model=await asyncio.to_thread(self._files.read_engine_model, path),
            trees=self._trees,
            files=self._files,
            meters=self._meters,
            limits=self._limits,
        )
        self._served[digest] = base
        self._meters.engines.set(len(self.served()))
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        return base

    def _fetch(self, digest: str) -> tuple[Path, Mapping[str, tuple[int, int]]]:
        try:
            path = self._trees.materialize(digest)
        except Missing as error:
            raise ModelMissing(f"the store has no base model {digest}", model=digest) from error
        layers = self._files.read_base_layers(path)
        for needed in ("config.json", "tokenizer_config.json"):
            if not (path / needed).is_file():
                raise ModelRefused(f"{digest} has no {needed}", model=digest, cause="incomplete")
        if not layers:
            raise ModelRefused(f"{digest} has no readable safetensors", model=digest, cause="no_safetensors")
        return path, layers

    async def _make_room(self, digest: str) -> None:
        others = [base for key, base in self._served.items() if key != digest and base.engine.alive]
        if len(others) < self._limits.max_engines:
            return
        idle = next((base for base in others if not base.requests), None)
        if idle is None:
            raise EngineBusy(f"all {self._limits.max_engines} engines answer requests", retry_after_s=5.0)
        del self._served[idle.digest]
        self._metrics_texts.pop(idle.digest, None)
        await idle.engine.stop()
        self._log.info("engine stopped to make room", base=idle.digest)

    def _died(self, digest: str) -> None:
        self._log.error("engine ended", base=digest)
        self._meters.engine_deaths.labels(short(digest)).inc()
        self._meters.engines.set(len(self.served()))
        self._metrics_texts.pop(digest, None)
        restart = asyncio.create_task(self._restart(digest))
        self._restarts.add(restart)
        restart.add_done_callback(self._restarts.discard)

    async def _restart(self, digest: str) -> None:
        """Start it again, waiting longer each time; a request for it starts it at once."""
        await self._on_health(False)
        for wait_s in _RESTART_WAIT_S:
            await asyncio.sleep(wait_s)
            try:
                await self.get(digest)
            except Refusal:
                continue
            return

    async def _poll(self) -> None:
        while True:
            for base in self.served():
                with contextlib.suppress(EngineDown):
                    self._metrics_texts[base.digest] = await base.engine.metrics()
            await asyncio.sleep(_METRICS_S)
