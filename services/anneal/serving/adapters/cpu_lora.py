"""LoRA on a CPU, one matrix product per adapter instead of one gathered copy of its weights per token.

vLLM's own CPU path (0.32.0, `lora/ops/torch_ops/lora_ops.py`) copies the adapter's weights once per token, indexes the
slot of rows without an adapter as -1 (which is the last slot, so the bare base may answer with an adapter), and sizes
the LM head's rows by request, so that prompt logprobs of two requests in one batch end the engine. This one groups the
rows by adapter, skips rows without one, and leaves the LM head alone: `domain.adapters` refuses adapters that touch it.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


class GroupedPunicaWrapper(PunicaWrapperCPU):  # type: ignore[misc]  # vllm ships no types
    """Applies every adapter of a batch to its own rows.

    Shapes: x [rows, in], y [rows, out], A stacked [slots, 1, rank, in], B stacked [slots, 1, out, rank].
    """

    _groups: tuple[tuple[int, torch.Tensor | None], ...] = ()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Group the rows of the next forward pass by adapter slot; None stands for all rows."""
        super().update_metadata(*args, **kwargs)
        slots = self.token_lora_indices
        used = torch.unique(slots).tolist()
        self._groups = tuple(
            (slot, None if len(used) == 1 else torch.nonzero(slots == slot).flatten()) for slot in used if slot >= 0
        )

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add `scale * x @ A^T @ B^T` of each adapter to its rows of y, in place and in float32."""
        x_flat, y_flat = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        for slot, rows in self._groups:
            inputs = (x_flat if rows is None else x_flat[rows]).float()
            start = 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                shrunk = torch.nn.functional.linear(inputs, a[slot, 0].float())
                update = torch.nn.functional.linear(shrunk, b[slot, 0].float()).mul_(scale).to(y.dtype)
                if rows is None:
                    y_flat[:, start : start + width] += update
                else:
                    y_flat[:, start : start + width].index_add_(0, rows, update)
                start += width

    def add_lora_logits(self, y: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Change nothing: no adapter that reaches the engine touches the LM head."""
