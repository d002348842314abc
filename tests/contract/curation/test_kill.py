"""A job that is killed ends with the same bytes as one that is not."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.contract.curation.house import House, many_rows, metadata, order, running, step
from tests.fixtures.processes import descendants

# The first two take long enough that the job can be met in the middle.
STEPS = [
    step("language", allowed=["en"]),
    step("repetition"),
    step("length", min_answer_words=1),
    step("exact_duplicates"),
    step("fuzzy_duplicates"),
    step("split"),
]


async def _publish(house: House) -> str:
    return (await house.publish("raw", {"train": many_rows()})).name


async def _begun(house: House, operation: str) -> None:
    async with asyncio.timeout(60):
        while (await house.host.jobs.store.get(operation)).progress is None:
            await asyncio.sleep(0.02)


def _job_process() -> int:
    return descendants("anneal.kit.jobs.run")[-1].pid


async def test_a_killed_curation_ends_with_the_same_digest(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        request = order(*STEPS, sources=[await _publish(house)])
        accepted = await house.curation.CurateDataset(request)
        await _begun(house, accepted.name)
        os.kill(_job_process(), signal.SIGKILL)
        ended = await house.finished(accepted)
        version = await house.version(ended)
        assert metadata(ended).attempt == 2
        assert "SIGKILL" in metadata(ended).last_failure
        request.dataset_id = "undisturbed"
        undisturbed = await house.version(await house.curation.CurateDataset(request))
        assert undisturbed.digest == version.digest
        assert version.input_row_count == version.row_count + sum(r.row_count for r in version.removals) == 30_000
        value = house.host.runtime.metrics.registry.get_sample_value
        labels = {"kind": "curate", "verdict": "kept", "reason": ""}
        assert value("anneal_rows_total", labels) == 2 * version.row_count


async def test_a_restarted_server_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        accepted = await house.curation.CurateDataset(order(*STEPS, sources=[await _publish(house)]))
        await _begun(house, accepted.name)
    async with running(tmp_path) as house:
        version = await house.version(accepted)
        assert version.input_row_count == version.row_count + sum(r.row_count for r in version.removals) == 30_000
        assert len(house.rows(version)) == version.row_count
