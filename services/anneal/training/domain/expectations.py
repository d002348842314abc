"""Computes what serving is expected to answer, in the number format that serving computes in.

In bfloat16 and float16 the adapter's factors are held as vLLM holds them (0.32.0, `lora/lora_weights.py`): both are
rounded to the format, then B is multiplied by the scale and rounded again; A's product is kept in float32 and rounded
before B's, and the update is rounded before it is added to the layer's own output, which is rounded already. The last
one matters: an update below half a unit of the output's last place is dropped, so a weak adapter has less effect in
bfloat16 than in float32 (measured on SmolLM2-135M: 87 % of an effect of 0.7 nats, next to nothing of 0.05 nats).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from anneal.training.domain.base_model import BaseModel
from anneal.training.domain.verify import target_logprobs

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Number formats that expectations can be computed in."""
PADDED_ROWS = 4
"""Sequences of one batch of the second computation."""


class HeldLora(nn.Module):
    """A linear layer with the factors of one adapter, held and applied as the engine does.

    Shapes: A [rank, in], B [out, rank], which is B times the scale.
    """

    lora_a: Tensor
    lora_b: Tensor

    def __init__(self, layer: LoraLinear, name: str, dtype: torch.dtype) -> None:
        """Round the factors of the adapter `name` of a PEFT layer."""
        super().__init__()
        self.base_layer = layer.base_layer
        self.register_buffer("lora_a", layer.lora_A[name].weight.detach().to(dtype))
        self.register_buffer("lora_b", layer.lora_B[name].weight.detach().to(dtype) * layer.scaling[name])

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output with the update added."""
        out: Tensor = self.base_layer(x)
        return out + self.update(x).to(out.dtype)

    def update(self, x: Tensor) -> Tensor:
        """What the factors add, in float32."""
        shrunk = F.linear(x.float(), self.lora_a.float()).to(x.dtype)
        return F.linear(shrunk.float(), self.lora_b.float())


def hold_adapter(base: nn.Module, folder: str, dtype: torch.dtype) -> nn.Module:
    """Put the adapter of a folder on a base, with the factors as the engine holds them.

    Args:
        base: a base model in `dtype`; changed in place.
        folder: as PEFT saved it.
        dtype: number format of the engine.
    """
    loaded: Any = PeftModel.from_pretrained(
        base, folder, use_safetensors=True, local_files_only=True, autocast_adapter_dtype=False
    )
    model: nn.Module = loaded.get_base_model()
    for path, layer in [(p, m) for p, m in model.named_modules() if isinstance(m, LoraLinear)]:
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, HeldLora(layer, loaded.active_adapter, dtype))
    return model.eval()


def sequence_logprobs(model: Any, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """Logprobs of each sequence's tokens after the first.

    A sequence that begins another one is not computed again: a conversation gives one sequence for each learned turn.
    """
    found: dict[tuple[int, ...], list[float]] = {}
    for ids in sorted({tuple(ids) for ids in sequences}, key=len, reverse=True):
        longer = next((other for other in found if other[: len(ids)] == ids), None)
        found[ids] = target_logprobs(model, ids) if longer is None else found[longer][: len(ids) - 1]
    return [found[tuple(ids)] for ids in sequences]


@torch.no_grad()
def padded_logprobs(model: Any, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """The same as `sequence_logprobs`, up to rounding: transformers' eager attention, padded batches."""
    device = next(model.parameters()).device
    found: list[list[float]] = []
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        for start in range(0, len(sequences), PADDED_ROWS):
            some = [torch.tensor(list(ids), device=device) for ids in sequences[start : start + PADDED_ROWS]]
            ids_RL = nn.utils.rnn.pad_sequence(some, batch_first=True)
            mask_RL = nn.utils.rnn.pad_sequence([torch.ones_like(ids) for ids in some], batch_first=True)
            logits_RLV = model(input_ids=ids_RL, attention_mask=mask_RL, use_cache=False).logits
            for ids, logits_LV in zip(some, logits_RLV, strict=True):
                logprobs = logits_LV[: len(ids) - 1].float().log_softmax(-1)
                found.append(logprobs.gather(-1, ids[1:, None])[:, 0].tolist())
    finally:
        model.set_attn_implementation(before)
    return found


def add_logprobs(
    expectations: Sequence[dict[str, Any]], base: BaseModel, adapter: Path, dtype: str, device: torch.device
) -> None:
    """Add what serving must answer in a number format to each expectation, below `logprobs` by the format's name.

    In float32 PEFT itself computes, on the processor, where no format with fewer digits stands in for it; the base's
    own logprobs are added as `base_logprobs`. Everything is computed a second time, with the attention written out and
    several sequences in one batch, and added below `logprobs_again`: how far the two are apart is how far rounding
    moves this model.

    Args:
        expectations: with `token_ids`; changed in place.
        base: the base model, read again: what was trained on may have been rounded to another format.
        adapter: folder as PEFT saved it.
        dtype: one of `DTYPES`.
        device: where formats other than float32 are computed.
    """
    sequences = [expected["token_ids"] for expected in expectations]
    weights = base.load(DTYPES[dtype])
    if dtype == "float32":
        tuned = PeftModel.from_pretrained(weights, str(adapter), use_safetensors=True, local_files_only=True).eval()
        with tuned.disable_adapter():
            for expected, logprobs in zip(expectations, sequence_logprobs(tuned, sequences), strict=True):
                expected["base_logprobs"] = logprobs
        model: Any = tuned.get_base_model()
    else:
        model = hold_adapter(weights.to(device), str(adapter), DTYPES[dtype])
    once, again = sequence_logprobs(model, sequences), padded_logprobs(model, sequences)
    for expected, first, second in zip(expectations, once, again, strict=True):
        expected.setdefault("logprobs", {})[dtype] = first
        expected.setdefault("logprobs_again", {})[dtype] = second
