"""Loads what was saved once more and compares it with what was trained, before anybody can use it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anneal.training.domain.errors import ArtifactDiffers
from anneal.training.domain.packing import collate
from anneal.training.domain.samples import Sample

TOLERANCE = 1e-5
"""Largest difference of a logit allowed between the model in memory and the loaded one: rounding only."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What the comparison saw: the loaded model's largest difference, and the adapter's largest effect on a logit."""

    max_difference: float
    max_effect: float


@torch.no_grad()
def verify_artifact(trained: Any, loaded: Any, samples: Sequence[Sample], *, pad_id: int) -> Verified:
    """Compare logits on a few samples.

    Args:
        trained: the model in memory.
        loaded: what was read back from the saved files.
        samples: sequences to compare on, at least one.
        pad_id: token to pad with.

    Raises:
        ArtifactDiffers: a logit is not finite, differs, or an adapter changes nothing.
    """
    trained.eval()
    loaded.eval()
    difference = effect = 0.0
    for sample in samples:
        kept, again = _logits(trained, sample, pad_id), _logits(loaded, sample, pad_id)
        if not (torch.isfinite(kept).all() and torch.isfinite(again).all()):
            raise ArtifactDiffers("the trained model gives logits that are not finite")
        scale = float(kept.abs().max()) if kept.dtype != torch.float32 else 1.0
        difference = max(difference, float((kept - again).abs().max()) / max(1.0, scale))
        if hasattr(loaded, "disable_adapter"):
            with _without_adapter(loaded):
                effect = max(effect, float((again - _logits(loaded, sample, pad_id)).abs().max()))
    if difference > TOLERANCE:
        raise ArtifactDiffers(f"the saved files answer differently: {difference:.3g}", difference=difference)
    if hasattr(loaded, "disable_adapter") and effect == 0.0:
        raise ArtifactDiffers("the saved adapter changes nothing", effect=effect)
    return Verified(difference, effect)


def _without_adapter(model: Any) -> AbstractContextManager[Any]:
    context = model.disable_adapter()
    return context if isinstance(context, AbstractContextManager) else nullcontext()


def _logits(model: Any, sample: Sample, pad_id: int) -> Tensor:
    device = next(model.parameters()).device
    batch = collate([[sample]], pad_id=pad_id).to(device)
    logits: Tensor = model(input_ids=batch.token_ids_RL, position_ids=batch.position_ids_RL, use_cache=False).logits
    return logits


@torch.no_grad()
def target_logprobs(model: Any, token_ids: Sequence[int]) -> list[float]:
    """Return the natural logarithm of the probability of each token after the first, given those before it."""
    device = next(model.parameters()).device
    ids = torch.tensor([list(token_ids)], device=device)
    logprobs = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    return [float(x) for x in logprobs.gather(-1, ids[0, 1:, None])[:, 0]]
