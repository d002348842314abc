"""What belongs to a model's chat template and is in none of the tokenizer's files: `anneal_chat.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "anneal_chat.json"
"""Stands beside a base model's tokenizer, and beside an adapter's weights; part of the digest of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How a chat template is used.

    Attributes:
        template_kwargs: variables for the template, such as `enable_thinking`.
        stop_token_ids: tokens that end a turn, beside those of tokenizer, generation configuration and template.
        allows_left_out: prompts may hold parts that the template does not render, because training allowed it.
    """

    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    stop_token_ids: tuple[int, ...] = ()
    allows_left_out: bool = False

    def over(self, base: ChatOptions) -> ChatOptions:
        """These options where they say something, the base's where they do not."""
        return ChatOptions(
            template_kwargs={**base.template_kwargs, **self.template_kwargs},
            stop_token_ids=tuple(sorted({*base.stop_token_ids, *self.stop_token_ids})),
            allows_left_out=self.allows_left_out or base.allows_left_out,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values, the inverse of `read_options`."""
        return {
            "template_kwargs": dict(self.template_kwargs),
            "stop_token_ids": list(self.stop_token_ids),
            "allows_left_out": self.allows_left_out,
        }


def read_options(folder: Path) -> ChatOptions:
    """The options in a folder; none where it has no such file.

    Raises:
        ValueError: the file is not what it should be.
    """
    path = folder / FILE
    if not path.exists():
        return ChatOptions()
    value = json.loads(path.read_text(encoding="utf-8"))
    kwargs, stops = value.get("template_kwargs", {}), value.get("stop_token_ids", [])
    if not isinstance(kwargs, dict) or not all(isinstance(stop, int) for stop in stops):
        raise ValueError(f"{FILE}: `template_kwargs` must be an object and `stop_token_ids` a list of numbers")
    return ChatOptions(
        template_kwargs=kwargs,
        stop_token_ids=tuple(stops),
        allows_left_out=value.get("allows_left_out") is True,
    )


def listed_stops(folder: Path) -> tuple[int, ...]:
    """The tokens that a model's `generation_config.json` says end an answer; none where it says nothing."""
    try:
        value = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return ()
    found = [value] if isinstance(value, int) else value or []
    return tuple(number for number in found if isinstance(number, int))
