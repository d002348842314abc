from __future__ import annotations

from anneal.synthesis.domain.schemas import without_string_bounds


def test_string_bounds_go_at_any_depth_and_everything_else_stays() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "x", "format": "uri"}},
        "$defs": {"D": {"anyOf": [{"type": "string", "pattern": "y"}, {"type": "integer", "minimum": 3}]}},
        "required": ["a"],
        "minItems": 1,
    }
    assert without_string_bounds(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "$defs": {"D": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 3}]}},
        "required": ["a"],
        "minItems": 1,
    }


def test_a_property_that_is_called_like_a_bound_stays() -> None:
    schema = {"properties": {"pattern": {"type": "string", "pattern": "x"}}, "required": ["pattern"]}
    assert without_string_bounds(schema) == {"properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}


def test_values_are_left_alone() -> None:
    schema = {"enum": [{"pattern": 1}], "default": {"minLength": 1}}
    assert without_string_bounds(schema) == schema
