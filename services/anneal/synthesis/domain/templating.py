"""Prompt templates as data: Jinja2 in its sandbox, with nothing to call and few filters.

A task comes from a request, so a template may read its fields and shape text, and can neither call
methods nor build values out of all proportion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from anneal.synthesis.domain import sentences

MAX_TEMPLATE_CHARACTERS = 8_000
MAX_RENDERED_CHARACTERS = 200_000
MAX_LOOP_ITEMS = 1_000

_FIELDS = "name type signature params entry body section level title text document row extract pairs instruction answer"
FIELDS = frozenset(_FIELDS.split())
_FILTERS = "capitalize default first last length lower title trim upper"


class BadTemplate(ValueError):
    """A template that cannot be used: `line` counts from 1 and is None where no line is at fault."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def is_safe_callable(self, obj: Any) -> bool:
        return False

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, int) and isinstance(right, int)) or operator == "**":
            raise SecurityError(f"operator {operator!r} works on whole numbers only")
        return super().call_binop(context, operator, left, right)


def _items(value: Any) -> Any:
    """What a loop runs over: a list of fair length, never the characters of a text."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) > MAX_LOOP_ITEMS:
        raise SecurityError(f"a loop runs over a list of at most {MAX_LOOP_ITEMS} items")
    return value


def _replace(value: Any, old: Any, new: Any) -> str:
    text, old, new = str(value), str(old), str(new)
    if len(text) + text.count(old) * len(new) > MAX_RENDERED_CHARACTERS:
        raise SecurityError("replace makes the text too long")
    replaced: str = text.replace(old, new)
    return replaced


def _join(items: Any, separator: str = "") -> str:
    parts = [str(item) for item in _items(items)]
    if sum(map(len, parts)) + len(parts) * len(separator) > MAX_RENDERED_CHARACTERS:
        raise SecurityError("join makes the text too long")
    return separator.join(parts)


def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=StrictUndefined, keep_trailing_newline=False, autoescape=False)
    environment.globals.clear()
    plain = {name: environment.filters[name] for name in _FILTERS.split()}
    environment.filters.clear()
    environment.filters.update(
        plain,
        cut=sentences.cut,
        first_sentence=sentences.first_sentence,
        items=_items,
        join=_join,
        json=lambda value: json.dumps(value, ensure_ascii=False),
        one_line=sentences.one_line,
        paragraphs=sentences.paragraphs,
        replace=_replace,
        sentences=sentences.sentences,
    )
    return environment


def _restrict(tree: nodes.Template) -> None:
    """Refuse what a task has no use for and what could make much out of little; loops run over lists only."""
    for statement in tree.find_all(nodes.Stmt):
        if not isinstance(statement, nodes.Output | nodes.If | nodes.For):
            raise BadTemplate(f"{type(statement).__name__.lower()} is not for tasks; if and for are", statement.lineno)
    for loop in tree.find_all(nodes.For):
        if any(loop.find_all(nodes.For)) or loop.recursive:
            raise BadTemplate("a loop inside a loop", loop.lineno)
        loop.iter = nodes.Filter(loop.iter, "items", [], [], None, None, lineno=loop.lineno)
    for expression in tree.find_all((nodes.Call, nodes.Concat)):
        what = "a call" if isinstance(expression, nodes.Call) else "joining texts with ~"
        raise BadTemplate(f"{what} is not for tasks", expression.lineno)


class Prompt:
    """A compiled template.

    Raises:
        BadTemplate: it does not parse or does more than fill in fields (with its line), is too long, or names a
            field that no passage has.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise BadTemplate(f"{len(source)} characters, at most {MAX_TEMPLATE_CHARACTERS}")
        environment = _environment()
        try:
            tree = environment.parse(source)
            unknown = meta.find_undeclared_variables(tree) - FIELDS
            _restrict(tree)
            self._template = environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise BadTemplate(error.message or "syntax error", error.lineno) from error
        except (TemplateError, RecursionError) as error:
            raise BadTemplate(str(error)) from error
        if unknown:
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
