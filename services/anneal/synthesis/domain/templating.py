"""Prompt templates as data: Jinja2 in its sandbox, with nothing to call and few filters.

A task comes from a request, so a template may read its fields and shape text, and can neither call
methods nor build values out of all proportion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from anneal.synthesis.domain import sentences

MAX_TEMPLATE_CHARACTERS = 8_000
MAX_RENDERED_CHARACTERS = 200_000

_FIELDS = "name type signature params entry body section level title text document row extract pairs instruction answer"
FIELDS = frozenset(_FIELDS.split())
_FILTERS = "capitalize default first join last length lower replace title trim upper"


class BadTemplate(ValueError):
    """A template that cannot be used: `line` counts from 1 and is None where no line is at fault."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "%"))

    def is_safe_callable(self, obj: Any) -> bool:
        return False

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, int) and isinstance(right, int)) or operator == "**":
            raise SecurityError(f"operator {operator!r} works on whole numbers only")
        return super().call_binop(context, operator, left, right)


def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=StrictUndefined, keep_trailing_newline=False, autoescape=False)
    environment.globals.clear()
    plain = {name: environment.filters[name] for name in _FILTERS.split()}
    environment.filters.clear()
    environment.filters.update(
        plain,
        cut=sentences.cut,
        first_sentence=sentences.first_sentence,
        json=lambda value: json.dumps(value, ensure_ascii=False),
        one_line=sentences.one_line,
        paragraphs=sentences.paragraphs,
        sentences=sentences.sentences,
    )
    return environment


class Prompt:
    """A compiled template.

    Raises:
        BadTemplate: it does not parse (with its line), is too long, or names a field that no passage has.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise BadTemplate(f"{len(source)} characters, at most {MAX_TEMPLATE_CHARACTERS}")
        environment = _environment()
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise BadTemplate(error.message or "syntax error", error.lineno) from error
        except (TemplateError, RecursionError) as error:
            raise BadTemplate(str(error)) from error
        if unknown := meta.find_undeclared_variables(tree) - FIELDS:
            known = ", ".join(sorted(FIELDS))
            raise BadTemplate(f"unknown field {', '.join(sorted(unknown))}; there are: {known}")

    def render(self, fields: Mapping[str, Any]) -> str:
        """The filled template, outer white space removed.

        Raises:
            BadTemplate: a field is missing in this passage, or the result is out of all proportion.
        """
        parts, size = [], 0
        try:
            for part in self._template.generate(**fields):
                size += len(part)
                if size > MAX_RENDERED_CHARACTERS:
                    raise BadTemplate(f"more than {MAX_RENDERED_CHARACTERS} characters")
                parts.append(part)
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            raise BadTemplate(str(error)) from error
        return "".join(parts).strip()
