"""What is looked at before the first step, so that no training can silently be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from anneal.training.domain.errors import DatasetEmpty, MaskEmpty, PackingLeaks
from anneal.training.domain.packing import collate
from anneal.training.domain.samples import Sample, Samples


def check_samples(samples: Samples) -> None:
    """Check that there is something to learn.

    Raises:
        DatasetEmpty: no sample is left.
        MaskEmpty: no token is to be predicted.
    """
    if not samples.kept:
        lost = ", ".join(f"{name} {number}" for name, number in sorted(samples.counts.items()) if number)
        raise DatasetEmpty(
            f"no sample is left to train on ({lost or 'there are no rows'}); enlarge max_length, or choose another "
            "too_long",
            **samples.counts,
        )
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
