from __future__ import annotations

from typing import Any

import grpc
import pytest

from anneal.kit.records import conversation
from tests.contract.curation.house import House, order, page, refusal, step

pytestmark = pytest.mark.asyncio(loop_scope="package")

JUDGE = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}


def rated(number: int, **scores: float) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"What is {number}?"}, {"role": "assistant", "content": "A number."}]
    return conversation(turns, source="a.html", scores=scores)


@pytest.mark.parametrize(
    "scoring",
    [
        step("score_filter", score="llm_judge", min=3, unscored="keep"),
        step("llm_judge", judge=JUDGE),
        step("quality_classifier", model={"name": "any"}),
    ],
    ids=lambda scoring: scoring.step,
)
async def test_documents_have_no_scores(house: House, scoring: Any) -> None:
    source = await house.publish(f"pages-{scoring.step.replace('_', '-')}", {"train": [page("text")]}, kind="document")
    with pytest.raises(grpc.aio.AioRpcError, match="which documents do not have") as caught:
        await house.curation.CurateDataset(order(step("length", min_answer_words=1), scoring, sources=[source.name]))
    assert refusal(caught.value) == ("INVALID_ARGUMENT", "INVALID_REQUEST", ["steps[1].step"])


@pytest.mark.parametrize(
    ("unscored", "kept", "reasons"),
    [
        ("keep", 3, {"score_too_low": 1, "score_too_high": 1}),
        ("drop", 2, {"score_too_low": 1, "score_too_high": 1, "unscored": 1}),
    ],
)
async def test_rows_leave_by_their_scores(house: House, unscored: str, kept: int, reasons: dict[str, int]) -> None:
    rows = [rated(n, llm_judge=value) for n, value in enumerate((1.9, 2.0, 3.5, 3.6))]
    source = await house.publish("rated", {"train": [*rows, rated(9, other=4.0)]})
    chosen = step("score_filter", score="llm_judge", min=2, max=3.5, unscored=unscored)
    version = await house.curated(chosen, sources=[source.name], dataset=f"by-score-{unscored}")
    assert version.row_count == kept
    assert {removal.reason: removal.row_count for removal in version.removals} == reasons
