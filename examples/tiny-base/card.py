"""Write the model card of `anneal-tiny` from what its making noted: `card.py <made folder> <model folder>`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

CARD = """---
license: psf-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [llama, anneal, test-model]
---

# anneal-tiny

A Llama of {millions:.1f} million parameters ({num_hidden_layers} layers, width {hidden_size},
{num_attention_heads} heads, vocabulary {vocab_size:,}, context {max_position_embeddings}, stored in float32) with its
own byte-level BPE tokenizer and a ChatML template. It exists so that Anneal's whole loop can run on two processor
cores without a network. It is far too small to be of use for anything else: it knows the sound of Python's
documentation, and next to nothing of its content.

## What it saw

Python 3.11.2's documentation as text (PSF licence; see `../../python-docs`): {pages} pages, in {num_phases} phases.
Each phase also holds the short entries of these pages several times in a row, because copying from its context is what
a small model must learn before it can answer from an input.

| phase | tokens | optimizer steps | learning rate | validation loss (nats per token) |
| --- | --- | --- | --- | --- |
{rows}

It was trained by Anneal's own `full` method with the raw-text objective; `../recipe.yaml` holds every setting.

    .venv/bin/python examples/tiny-base/make.py examples/tiny-base/recipe.yaml build/tiny-base
    .venv/bin/python examples/tiny-base/card.py build/tiny-base build/tiny-base/model

## What it did not see

No conversation, no instruction, none of the examples' tasks, and none of these {num_left_out} pages, which the grouped
split of `../../python-docs/recipe.yaml` can put into a test set:

{left_out}

## Known to be weak

Answers of the bare model are noise that looks like documentation. Nothing was done about bias or safety: do not show
its output to anybody as information.
"""


def main() -> None:
    """Fill the card."""
    made, target = Path(sys.argv[1]), Path(sys.argv[2])
    notes = json.loads((made / "notes.json").read_text())
    rows = [
        f"| {number} | {phase['tokens']:,} a pass, {phase['spec']['num_epochs']:g} passes | {phase['steps']:,} "
        f"| {phase['spec']['learning_rate']:g} | {phase['validation_loss']:.3f} |"
        for number, phase in enumerate(notes["phases"], start=1)
    ]
    shape = json.loads((made / "model" / "config.json").read_text())
    card = CARD.format(
        **shape,
        millions=notes["parameters"] / 1e6,
        pages=notes["pages"],
        num_phases=len(notes["phases"]),
        rows="\n".join(rows),
        num_left_out=len(notes["left_out"]),
        left_out=", ".join(f"`{page.removeprefix('library/').removesuffix('.html')}`" for page in notes["left_out"]),
    )
    (target / "README.md").write_text(card)


if __name__ == "__main__":
    main()
