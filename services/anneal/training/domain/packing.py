"""Packs samples into rows of equal length, so that little is computed on padding.

Best-fit decreasing; the samples of a row are kept apart by position ids that start again at 0 with each sample, which
the attention of every transformers model reads as a border. `checks.check_packing` proves it on the model at hand.

Shapes: R rows, L tokens.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anneal.training.domain.samples import Sample

IGNORED = -100
"""Label that cross entropy leaves out; PyTorch's own default."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass reads. `labels_RL[r, i]` is what position i must predict: the shift is done here, once.

    `weights_RL` holds what the loss multiplies each prediction's part by; None where that is 1 for every target.
    """

    token_ids_RL: Tensor
    position_ids_RL: Tensor
    labels_RL: Tensor
    num_targets: int
    weights_RL: Tensor | None = None

    @property
    def weight(self) -> float:
        """What the loss is divided by: the number of targets, or the sum of their weights."""
        return float(self.num_targets if self.weights_RL is None else self.weights_RL.sum())

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on another device."""
        token_ids, positions, labels = self.token_ids_RL, self.position_ids_RL, self.labels_RL
        weights = None if self.weights_RL is None else self.weights_RL.to(device)
        return Batch(token_ids.to(device), positions.to(device), labels.to(device), self.num_targets, weights)


def pack(samples: Sequence[Sample], *, context_tokens: int, packed: bool = True) -> list[list[Sample]]:
    """Pack samples into rows of at most `context_tokens` tokens; every sample lands in exactly one row.

    Args:
        samples: none longer than `context_tokens`.
        context_tokens: room of a row.
        packed: False gives each sample a row of its own.
    """
    if not packed:
        return [[sample] for sample in samples]
    order = sorted(range(len(samples)), key=lambda i: (-len(samples[i]), i))
    rows: list[list[Sample]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row), sorted, so that the tightest fit is found by bisection
    for i in order:
        size = len(samples[i])
        at = bisect.bisect_left(open_rows, (size, -1))
        if at < len(open_rows):
            room, row = open_rows.pop(at)
        else:
            room, row = context_tokens, len(rows)
            rows.append([])
        rows[row].append(samples[i])
        if room > size:
            bisect.insort(open_rows, (room - size, row))
    return rows


def collate(rows: Sequence[Sequence[Sample]], *, pad_id: int) -> Batch:
    """Lay rows out as tensors, padded to the longest of them.

    Padding is a sample of its own: it has position ids from 0 and only ignored labels. The last token of a sample
    predicts nothing, so that no sample is asked for the beginning of its neighbour.
    """
    length = max(sum(len(s) for s in row) for row in rows)
    token_ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    positions = torch.zeros((len(rows), length), dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.long)
    is_weighted = any(sample.weights is not None for row in rows for sample in row)
    weights = torch.zeros((len(rows), length)) if is_weighted else None
    for r, row in enumerate(rows):
        at = 0
        for sample in row:
            end = at + len(sample)
            ids = torch.tensor(sample.token_ids, dtype=torch.long)
            token_ids[r, at:end] = ids
            positions[r, at:end] = torch.arange(len(sample))
            targets = torch.tensor(sample.is_target[1:], dtype=torch.bool)
            labels[r, at : end - 1] = torch.where(targets, ids[1:], IGNORED)
            if weights is not None:
                own = targets if sample.weights is None else torch.tensor(sample.weights[1:])
                weights[r, at : end - 1] = own.to(weights.dtype)
            at = end
        positions[r, at:] = torch.arange(length - at)
    return Batch(token_ids, positions, labels, int((labels != IGNORED).sum()), weights)
