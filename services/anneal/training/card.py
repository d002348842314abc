"""What lies beside the weights for people: a card, the curves, a few answers. Nothing in it depends on the clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def describe(
    result: Mapping[str, Any],
    *,
    base_name: str,
    base_digest: str,
    datasets: Sequence[str],
    base_license: str = "",
    base_origin: str = "",
) -> dict[str, bytes]:
    """The files `README.md`, `curves.json` and `samples.json`, by name.

    Args:
        result: what `run.train_run` left in `result.json`.
        base_name: resource name of the base model.
        base_digest: its digest.
        datasets: resource names of the dataset versions.
        base_license: licence of the base model, which what is made of it is bound to; empty when it names none.
        base_origin: where the base model came from, a Hub id with revision where it is known.
    """
    texts = {
        "README.md": _card(result, base_name, base_digest, datasets, base_license, base_origin),
        "curves.json": json.dumps(result["curve"], indent=1) + "\n",
        "samples.json": json.dumps(result["samples"], indent=1, ensure_ascii=False) + "\n",
    }
    return {name: text.encode("utf-8", errors="backslashreplace") for name, text in texts.items()}


def _card(
    result: Mapping[str, Any],
    base_name: str,
    base_digest: str,
    datasets: Sequence[str],
    base_license: str,
    base_origin: str,
) -> str:
    spec = result["spec"]
    front = [
        "---",
        f"base_model: {base_name}",
        f"base_model_digest: {base_digest}",
        *([f"base_model_source: {json.dumps(base_origin)}"] if base_origin else []),
        *([f"license: {json.dumps(base_license)}"] if base_license else []),
        f"library_name: {'peft' if spec['method'] == 'lora' else 'transformers'}",
        "pipeline_tag: text-generation",
        "datasets:",
        *(f"- {name}" for name in datasets),
        "---",
    ]
    facts = {
        "licence of the base model": base_license or "none named",
        "source of the base model": base_origin or None,
        "method": spec["method"],
        "objective": spec["objective"],
        "steps": result["num_steps"],
        "tokens trained on": result["num_tokens"],
        "rows": result["num_rows"],
        "last training loss (nats per token)": _number(result["train_loss"]),
        "best validation loss (nats per token)": _number(result["validation_loss"]),
        "best step": result["best_step"],
        "stopped early": result["stopped_early"],
        "share of tokens the loss covers": _number(result["mask_coverage"]),
        "packing efficiency": _number(result["packing_efficiency"]),
        "largest logit difference of packed samples": f"{result['packing_difference']:.2g}",
        "largest logit difference after loading again": f"{result['reload_difference']:.2g}",
        "trainable parameters": f"{result['num_trainable']} of {result['num_parameters']}",
    }
    lines = [
        *front,
        "",
        f"# Trained by Anneal with `{spec['method']}`",
        "",
        "| What | Value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in facts.items() if value is not None),
        "",
        "The loss of every step is in `curves.json`, a few answers beside their references in `samples.json`.",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(spec, indent=1, sort_keys=True),
        "```",
        "",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
