"""What a job found out about a base model, as fields of the registry's `Model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.kit.digests import digest_of_bytes


def resource_fields(made: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that imported and trained models have alike; `made` is what `describing.describe_model` gives."""
    template = made["chat_template"]
    return {
        "chat_template_digest": digest_of_bytes(template.encode()) if template else "",
        "has_chat_template": bool(template),
        **{field: made[field] for field in ("template_kwargs", "license", "card_digest", "storage_dtype")},
        "special_tokens": made["special_tokens"],
    }
