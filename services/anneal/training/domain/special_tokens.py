"""Adds special tokens to a base model: to its tokenizer, and a row for each to its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from anneal.training.domain.base_model import open_base_model, stored_dtype
from anneal.training.domain.chat_files import note_added
from anneal.training.domain.errors import BaseUnusable
from anneal.training.domain.model_files import INDEX


def add_special_tokens(folder: Path, tokens: Sequence[str]) -> list[str]:
    """Add tokens to the model in a folder; returns those that were new. The same files come out every time.

    A new token's row is the mean of the rows that were there, the one start that says nothing. Rows that the model has
    beyond its tokenizer's vocabulary are used before any is added.

    Raises:
        BaseUnusable: the model cannot be opened.
    """
    base = open_base_model(folder)
    known = base.tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    if not new:
        return []
    before = len(base.tokenizer)
    base.tokenizer.add_special_tokens({"additional_special_tokens": new}, replace_extra_special_tokens=False)
    model = base.load(stored_dtype(folder))
    rows = model.get_input_embeddings().weight.shape[0]
    if len(base.tokenizer) > rows:
        model.resize_token_embeddings(len(base.tokenizer), mean_resizing=False)
    _start_at_the_mean(model, before, [base.tokenizer.convert_tokens_to_ids(token) for token in new])
    for path in (*folder.glob("*.safetensors"), folder / INDEX):
        path.unlink(missing_ok=True)
    try:
        model.save_pretrained(folder, safe_serialization=True)
        base.tokenizer.save_pretrained(folder)
    except (RuntimeError, ValueError, TypeError) as error:
        raise BaseUnusable(f"its special tokens cannot be saved: {error}", cause="special_tokens") from error
    note_added(folder, tuple(new))
    return new


@torch.no_grad()
def _start_at_the_mean(model: Any, before: int, ids: Sequence[int]) -> None:
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    seen = set()
    for table in tables:
        if table is None or table.weight.data_ptr() in seen:  # tied tables are one
            continue
        seen.add(table.weight.data_ptr())
        mean = table.weight[:before].float().mean(dim=0)
        for number in ids:
            table.weight[number] = mean.to(table.weight.dtype)
        if getattr(table, "bias", None) is not None:
            table.bias[list(ids)] = table.bias[:before].float().mean().to(table.bias.dtype)
