"""JSON schemas as constrained decoding can honour them.

String bounds break xgrammar 0.2.8 (upstream issue 800): a bounded string can hold neither a quote nor a
newline nor a backslash, and raw control characters pass. So the bounds stay in the pydantic model, which
checks them after parsing, and the engine gets the schema without them.
"""

from __future__ import annotations

from typing import Any

STRING_BOUNDS = frozenset(("minLength", "maxLength", "pattern", "format"))
_MAPS_OF_SCHEMAS = frozenset(("properties", "$defs", "definitions", "patternProperties"))


def without_string_bounds(schema: Any) -> Any:
    """The schema with every string bound left out, at any depth; properties of such a name stay."""
    if isinstance(schema, list):
        return [without_string_bounds(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without_string_bounds(item) for name, item in value.items()}
        if key in _MAPS_OF_SCHEMAS and isinstance(value, dict)
        else value
        if key in ("enum", "const", "default", "examples")
        else without_string_bounds(value)
        for key, value in schema.items()
        if key not in STRING_BOUNDS
    }
