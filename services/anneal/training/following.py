"""Carries what the workers write down to whoever watches the job: each step once, over all attempts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anneal.kit.jobs.context import JobContext


class Follower:
    """Reads a run's journal as it grows."""

    def __init__(self, ctx: JobContext, folder: Path) -> None:
        """Follow the run in `folder`; how far an attempt before came is kept beside the journal."""
        self._ctx = ctx
        self._journal = folder / "events.jsonl"
        self._mark = folder / "reported.json"
        self._offset, self._step = 0, 0
        if self._mark.exists():
            self._offset, self._step = json.loads(self._mark.read_text())

    def __call__(self) -> None:
        """Report what is new.

        Raises:
            Cancelled: the job was asked to stop.
        """
        self._ctx.check()
        if not self._journal.exists():
            return
        with self._journal.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        if not whole:
            return
        for line in whole.splitlines():
            self._report(json.loads(line))
        self._offset += len(whole)
        fresh = self._mark.with_suffix(".new")
        fresh.write_text(json.dumps([self._offset, self._step]))
        fresh.replace(self._mark)

    def _report(self, event: dict[str, Any]) -> None:
        ctx, step = self._ctx, int(event["step"])
        if "num_steps" not in event:
            if step >= self._step:  # a validation comes after its step
                ctx.metric("validation_loss", event["loss"], step=step)
            return
        if step <= self._step:
            return  # done once more after a restart
        self._step = step
        readings = {
            "train_loss": event["loss"],
            "grad_norm": event["grad_norm"],
            "learning_rate": event["learning_rate"],
            "tokens_per_second": event["tokens_per_s"],
            "memory_bytes": event["memory_bytes"],
        }
        for name, value in readings.items():
            ctx.metric(name, value, step=step)
        ctx.count("tokens", event["num_tokens"], use="train")
        ctx.progress(step, event["num_steps"], "steps", f"loss {event['loss']:.3f}")
