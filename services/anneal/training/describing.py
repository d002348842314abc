"""What the registry keeps of a base model, read from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from anneal.kit.digests import digest_of_file
from anneal.training.domain.base_model import open_base_model, stored_dtype
from anneal.training.domain.chat_files import added_tokens, template_kwargs, template_of

MAX_LICENSE = 200


def describe_model(folder: Path) -> dict[str, Any]:
    """Check a whole base model, one weight at a time, and return what the registry keeps of it.

    Raises:
        BaseUnusable: configuration or tokenizer are missing or cannot be read, the tokenizer has several chat templates
            or one that is none, a file is missing or damaged, or a weight is missing or not finite.
    """
    base = open_base_model(folder)
    template = template_of(base.tokenizer)
    kwargs = template_kwargs(folder)
    model = base.check_weights()
    card = folder / "README.md"
    return {
        "architecture": (base.config.architectures or [type(model).__name__])[0],
        "parameter_count": sum(p.numel() for p in model.parameters()),
        "context_length": base.context_length,
        "chat_template": template,
        "template_kwargs": json.dumps(kwargs, sort_keys=True, ensure_ascii=False) if kwargs else "",
        "special_tokens": list(added_tokens(folder)),
        "storage_dtype": str(stored_dtype(folder)).removeprefix("torch."),
        "license": license_of(folder),
        "card_digest": digest_of_file(card) if card.is_file() else "",
    }


def license_of(folder: Path) -> str:
    """The licence that a model's card names in its front matter, else the first line of its licence file."""
    front = _front_matter(folder / "README.md")
    named = front.get("license")
    if isinstance(named, list):
        named = ", ".join(map(str, named))
    if isinstance(named, str) and named.strip().lower() == "other":
        named = front.get("license_name") or front.get("license_link") or named
    if isinstance(named, str) and named.strip():
        return named.strip()[:MAX_LICENSE]
    for path in sorted(folder.glob("LICENSE*")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        first = next((line.strip() for line in lines if line.strip()), "")
        if first:
            return f"{path.name}: {first}"[:MAX_LICENSE]
    return ""


def _front_matter(path: Path) -> dict[str, Any]:
    """The YAML between the first two lines of `---`; empty where there is none that can be read."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    body = text.removeprefix("---").partition("\n---")[0]
    try:
        found = yaml.safe_load(body)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}
