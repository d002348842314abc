"""Small base models of several families, trained for a moment so that their logits are spread as real ones are.

Their language is a Markov chain over token ids: no tokenizer, no data and no network are needed, and an adapter can be
trained for real in a second by moving some of the chain's states.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers

VOCABULARY = 512
SUCCESSORS = 6
PROMPT, ANSWER = 16, 48
"""Tokens of a row's prompt and of its answer."""

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {}),
    "phi3": ("Phi3Config", {}),
    "gemma2": ("Gemma2Config", {"query_pre_attn_scalar": 32, "sliding_window": 128, "attn_logit_softcapping": None}),
    "olmo2": ("Olmo2Config", {}),
    "granite": ("GraniteConfig", {"embedding_multiplier": 6.0, "residual_multiplier": 0.4, "logits_scaling": 2.0}),
}
"""Family -> (class of its configuration, what it has beside the common shape)."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A language: the successors of every token, the first one the likeliest."""

    successors: tuple[tuple[int, ...], ...]

    @classmethod
    def seeded(cls, seed: int) -> Chain:
        """A chain drawn from a seed."""
        draw = random.Random(seed)
        return cls(tuple(tuple(draw.sample(range(3, VOCABULARY), SUCCESSORS)) for _ in range(VOCABULARY)))

    def moved(self, seed: int, share: float) -> Chain:
        """A chain in which this share of the states has other successors."""
        draw, other = random.Random(seed), Chain.seeded(seed + 1)
        moved = [draw.random() < share for _ in self.successors]
        both = zip(self.successors, other.successors, moved, strict=True)
        return Chain(tuple(theirs if is_moved else ours for ours, theirs, is_moved in both))

    def rows(self, count: int, seed: int) -> list[list[int]]:
        """Rows of prompt and answer."""
        draw = random.Random(seed)
        weights = [2.0**-i for i in range(SUCCESSORS)]
        rows = []
        for _ in range(count):
            row = [draw.randrange(3, VOCABULARY)]
            while len(row) < PROMPT + ANSWER:
                row += draw.choices(self.successors[row[-1]], weights)
            rows.append(row)
        return rows


def write_base(folder: Path, family: str, *, layers: int, dtype: torch.dtype, seed: int, steps: int = 60) -> Path:
    """Write a base model of a family into a folder, stored in `dtype`."""
    kind, special = FAMILIES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, kind)(**_SHAPE, **special, num_hidden_layers=layers)
    model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fit(model, Chain.seeded(seed).rows(16 * 16, seed), steps=steps, learning_rate=5e-3, is_whole=True)
    model.to(dtype).save_pretrained(folder)
    return folder


def fit(
    model: Any,
    rows: list[list[int]],
    *,
    steps: int,
    learning_rate: float,
    is_whole: bool = False,
    batch: int = 16,
    watch: Callable[[float], None] = lambda _: None,
) -> None:
    """Train what needs a gradient, on the answers of the rows or on all of their tokens."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0)
    start = 1 if is_whole else PROMPT
    model.train()
    for step in range(steps):
        at = step * batch % len(rows)
        ids = torch.tensor(rows[at : at + batch])
        logits = model(input_ids=ids, use_cache=False).logits[:, start - 1 : -1].float()
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, start:].reshape(-1))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        watch(loss.item())
    model.eval()
