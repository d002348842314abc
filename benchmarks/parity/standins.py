"""Stand-ins for an engine: the same model in the same number format, under other kernels, batches and orders of sums.

What differs between an engine and plain torch in bfloat16 is where sums are rounded: attention's kernel, how a matrix
product is split along its inner dimension (and, with tensor parallelism, that the parts are rounded before they are
added up), which rows are computed together, and whether the adapter's product is rounded in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from anneal.training.domain.expectations import HeldLora


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """One way to compute.

    Attributes:
        attention: transformers' name of the implementation.
        is_math: take torch's plain attention behind `sdpa`.
        batch: sequences alone, padded into one batch, or one after the other in one row.
        splits: parts that matrix products are summed from.
        rounds_parts: parts are rounded before they are added, as between tensor-parallel GPUs.
        lora: `engine` as vLLM's GPU kernels, `wide` without rounding in between, `torch` rounding after each product.
        threads: threads of one computation.
    """

    attention: Literal["sdpa", "eager"] = "sdpa"
    is_math: bool = False
    batch: Literal["alone", "padded", "packed"] = "alone"
    splits: int = 1
    rounds_parts: bool = False
    lora: Literal["engine", "wide", "torch"] = "engine"
    threads: int = 1


STAND_INS: dict[str, StandIn] = {
    "eager attention": StandIn(attention="eager"),
    "padded batch, math attention": StandIn(batch="padded", is_math=True),
    "packed, two threads": StandIn(batch="packed", lora="wide", threads=2),
    "sums in three parts": StandIn(splits=3),
    "tensor parallel over 2": StandIn(splits=2, rounds_parts=True),
    "tensor parallel over 4, eager, padded": StandIn(
        splits=4, rounds_parts=True, attention="eager", batch="padded", lora="torch"
    ),
}


def serve(model: Any, rows: Sequence[Sequence[int]], way: StandIn) -> list[list[float]]:
    """Logprobs of each row's tokens after the first, computed in a stand-in's way.

    Args:
        model: of `hold_adapter`, or a bare base.
        rows: sequences of equal length.
        way: the stand-in.
    """
    threads = torch.get_num_threads()
    model.set_attn_implementation(way.attention)
    torch.set_num_threads(way.threads)
    try:
        with _computing(way), torch.no_grad():
            return _logprobs(model, torch.tensor([list(row) for row in rows]), way.batch)
    finally:
        torch.set_num_threads(threads)
        model.set_attn_implementation("sdpa")


def _logprobs(model: Any, ids: Tensor, batch: str) -> list[list[float]]:
    count, length = ids.shape
    if batch == "alone":
        logits = torch.cat([model(input_ids=row[None], use_cache=False).logits for row in ids])
    elif batch == "padded":
        padded = F.pad(ids, (0, 13), value=2)
        mask = F.pad(torch.ones_like(ids), (0, 13))
        logits = model(input_ids=padded, attention_mask=mask, use_cache=False).logits[:, :length]
    else:
        positions = torch.arange(length).repeat(count)
        logits = model(input_ids=ids.reshape(1, -1), position_ids=positions[None], use_cache=False).logits
        logits = logits.reshape(count, length, -1)
    logprobs = logits[:, :-1].float().log_softmax(-1)
    found: list[list[float]] = logprobs.gather(-1, ids[:, 1:, None])[..., 0].tolist()
    return found


@contextmanager
def _computing(way: StandIn) -> Iterator[None]:
    """Replace the products of linear layers and adapters by those of a stand-in."""
    update = HeldLora.update

    def linear(layer: nn.Linear, x: Tensor) -> Tensor:
        return _product(x, layer.weight, layer.bias, way)

    def held(layer: HeldLora, x: Tensor) -> Tensor:
        if way.lora == "engine":
            return update(layer, x)
        if way.lora == "wide":
            return F.linear(F.linear(x.float(), layer.lora_a.float()), layer.lora_b.float())
        return F.linear(F.linear(x, layer.lora_a), layer.lora_b)

    with (
        mock.patch.object(nn.Linear, "forward", linear),
        mock.patch.object(HeldLora, "update", held),
        sdpa_kernel(SDPBackend.MATH) if way.is_math else nullcontext(),
    ):
        yield


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, way: StandIn) -> Tensor:
    if way.splits == 1:
        return F.linear(x, weight, bias)
    size = -(-weight.shape[1] // way.splits)
    total = None
    for start in range(0, weight.shape[1], size):
        some, others = x[..., start : start + size], weight[:, start : start + size]
        part = F.linear(some, others) if way.rounds_parts else F.linear(some.float(), others.float())
        total = part if total is None else total + part
    assert total is not None
    return (total if bias is None else total + bias).to(x.dtype)
