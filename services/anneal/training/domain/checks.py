"""What is looked at before the first step, so that no training can silently be wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from anneal.training.domain.errors import DatasetEmpty, MaskEmpty, MaskMisplaced, PackingLeaks, StopTokenMissing
from anneal.training.domain.packing import collate
from anneal.training.domain.samples import Sample, Samples
from anneal.training.domain.template import Rendered

_MARKUP = re.compile(r"<[^<>]*>|\s+")


def answer_runs(is_answer: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the unbroken runs of marked tokens as (start, end)."""
    borders = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(is_answer)) if a != b), len(is_answer)]
    return [(a, b) for a, b in pairwise(borders) if a < b and is_answer[a]]


def check_answers(
    tokenizer: PreTrainedTokenizerBase,
    rendered: Rendered,
    answers: Sequence[str],
    stop_ids: Collection[int],
    *,
    row_id: str,
) -> None:
    """Check that the mask covers each answer, nothing else, and its stop token.

    Besides the answer a run may hold the template's own markup (`<...>`) and white space.

    Raises:
        MaskEmpty: nothing is covered.
        MaskMisplaced: a run is missing, or holds other text than its answer.
        StopTokenMissing: a run does not end in a stop token.
    """
    runs = answer_runs(rendered.is_answer)
    if not runs:
        raise MaskEmpty(f"the loss covers no token of conversation {row_id}", row_id=row_id)
    if len(runs) != len(answers):
        raise MaskMisplaced(
            f"conversation {row_id} has {len(answers)} assistant turns, the loss covers {len(runs)} runs",
            row_id=row_id,
            turns=len(answers),
            runs=len(runs),
        )
    for turn, ((start, end), answer) in enumerate(zip(runs, answers, strict=True)):
        ids = rendered.token_ids[start:end]
        if ids[-1] not in stop_ids:
            raise StopTokenMissing(
                f"assistant turn {turn} of conversation {row_id} does not end in a stop token inside the loss: "
                "the model would never learn to stop",
                row_id=row_id,
                turn=turn,
            )
        said = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        before, found, after = said.partition(answer.strip())
        if not found or _MARKUP.sub("", before + after):
            raise MaskMisplaced(
                f"the loss of assistant turn {turn} of conversation {row_id} covers other text than the answer",
                row_id=row_id,
                turn=turn,
            )


def check_samples(samples: Samples) -> None:
    """Check that there is something to learn.

    Raises:
        DatasetEmpty: no sample is left.
        MaskEmpty: no token is to be predicted.
    """
    if not samples.kept:
        raise DatasetEmpty("no sample is left to train on", **samples.counts)
    if not samples.num_targets:
        raise MaskEmpty("the loss covers no token of the whole dataset", tokens=samples.num_tokens)


@torch.no_grad()
def check_packing(model: nn.Module, rows: Sequence[Sequence[Sample]], *, pad_id: int, tolerance: float = 1e-3) -> float:
    """Run the fullest packed row and its samples alone, and return the largest difference of any logit.

    Rounding moves a logit by about 1e-5 in float32; a neighbour that is seen moves it by more than 1e-1.
    The tolerance is multiplied by 100 for half precision.

    Raises:
        PackingLeaks: the difference is above the tolerance.
    """
    packed = next((row for row in rows if len(row) > 1), None)
    if packed is None:
        return 0.0
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    together = _logits(model, packed, pad_id, device)[0]
    difference, at = 0.0, 0
    for sample in packed:
        alone = _logits(model, [sample], pad_id, device)[0]
        difference = max(difference, float((together[at : at + len(sample)] - alone).abs().max()))
        at += len(sample)
    model.train(was_training)
    allowed = tolerance * (100 if together.dtype != torch.float32 else 1)
    if not difference <= allowed:
        raise PackingLeaks(
            f"samples packed together see each other: logits differ by {difference:.3g}", difference=difference
        )
    return difference


def _logits(model: nn.Module, row: Sequence[Sample], pad_id: int, device: torch.device) -> Any:
    batch = collate([row], pad_id=pad_id).to(device)
    return model(input_ids=batch.token_ids_RL, position_ids=batch.position_ids_RL, use_cache=False).logits
