"""The chat template, template variables and special tokens that a base model is given when it is imported.

All of it is written into the model's folder, so it is part of the model's digest, and training and serving read it
from there: the template in `chat_template.jinja`, its variables in `anneal_chat.json`, added tokens in the tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from anneal.training.domain.errors import BaseUnusable
from anneal.training.domain.model_files import TEMPLATES

TEMPLATE_FILE, KWARGS_FILE, ADDED_FILE = "chat_template.jinja", "anneal_chat.json", "anneal_base.json"
_QUESTION, _ANSWER = "Which colour?", "Vermilion."
_GIVEN = ("messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatGiven:
    """What an import gives a base model.

    Attributes:
        template_name: one of `TEMPLATES`.
        template_text: a template in Jinja's own words.
        template_choice: which of the tokenizer's own named templates.
        template_kwargs: variables of the template.
        special_tokens: texts that become tokens.
    """

    template_name: str = ""
    template_text: str = ""
    template_choice: str = ""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()

    def violations(self) -> list[tuple[str, str]]:
        """What is wrong already without any file of the model, as (field, text)."""
        found = []
        if self.template_name and self.template_name not in TEMPLATES:
            found.append(("template_name", f"{self.template_name!r} is none of {', '.join(TEMPLATES)}"))
        if self.template_text and (why := _why_not_compiled(self.template_text)):
            found.append(("template_text", f"is no Jinja template: {why}"))
        found += [
            ("template_kwargs", f"{name!r} is set by Anneal and cannot be given")
            for name in self.template_kwargs
            if name in _GIVEN
        ]
        for token in self.special_tokens:
            if not token.strip() or token != token.strip():
                found.append(("special_tokens", f"{token!r} is blank, or begins or ends with white space"))
        if len(set(self.special_tokens)) < len(self.special_tokens):
            found.append(("special_tokens", "names a token twice"))
        return found


class _Needed(jinja2.Undefined):
    """A variable that a template writes and nobody gives: it would become nothing, in every prompt."""

    def __str__(self) -> str:
        if self._undefined_obj is jinja2.utils.missing:
            raise jinja2.UndefinedError(f"needs the variable {self._undefined_name}, which nobody gives")
        return ""


def library_template(name: str) -> str:
    """The text of a template of `chat_templates/`."""
    return files("anneal.training").joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")


def give_chat(folder: Path, given: ChatGiven) -> None:
    """Write a template and its variables into a base model's folder.

    Raises:
        BaseUnusable: the tokenizer's files cannot be read, or have no template of the chosen name.
    """
    path = folder / "tokenizer_config.json"
    config = _read(path)
    named = _named_templates(config)
    text = given.template_text or (library_template(given.template_name) if given.template_name else "")
    if given.template_choice:
        if given.template_choice not in named:
            listed = ", ".join(sorted(named)) or "none"
            raise BaseUnusable(
                f"the tokenizer has no chat template named {given.template_choice!r}; it has {listed}",
                cause="chat_template",
            )
        text = named[given.template_choice]
    if text:
        (folder / TEMPLATE_FILE).write_text(text, encoding="utf-8")
        if config.pop("chat_template", None) is not None:
            _write(path, config)
        (folder / "chat_template.json").unlink(missing_ok=True)
    if given.template_kwargs:
        said = _read(folder / KWARGS_FILE)
        known = {**said.get("template_kwargs", {}), **given.template_kwargs}
        _write(folder / KWARGS_FILE, {**said, "template_kwargs": known})


def template_kwargs(folder: Path) -> dict[str, Any]:
    """The variables of the template that stand in a model's folder.

    Raises:
        BaseUnusable: the file that holds them is damaged.
    """
    said = _read(folder / KWARGS_FILE).get("template_kwargs", {})
    if not isinstance(said, dict):
        raise BaseUnusable(f"{KWARGS_FILE}: `template_kwargs` is no object", cause="chat_template")
    return said


def added_tokens(folder: Path) -> tuple[str, ...]:
    """The special tokens that were added when a model was imported."""
    said = _read(folder / ADDED_FILE).get("added_special_tokens", [])
    return tuple(str(token) for token in said) if isinstance(said, list) else ()


def note_added(folder: Path, tokens: tuple[str, ...]) -> None:
    """Write down which special tokens were added."""
    _write(folder / ADDED_FILE, {**_read(folder / ADDED_FILE), "added_special_tokens": list(tokens)})


def keep_chat_files(base: Path, folder: Path) -> None:
    """Copy what a base model was given to a model that was trained from it."""
    for name in (KWARGS_FILE, ADDED_FILE):
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The tokenizer's one chat template; None where it has none.

    Raises:
        BaseUnusable: it has several and none is chosen, or its text is no Jinja template.
    """
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        raise BaseUnusable(
            f"the tokenizer has several chat templates ({', '.join(sorted(template))}): choose one when importing "
            "(template_choice, --template-choice)",
            cause="chat_template",
        )
    if not isinstance(template, str) or not template.strip():
        return None
    if why := _why_not_compiled(template):
        raise BaseUnusable(f"the chat template is no Jinja template: {why}", cause="chat_template")
    return template


def check_template(tokenizer: PreTrainedTokenizerBase, kwargs: Mapping[str, Any]) -> None:
    """Check a template that an import gives: it renders a question and an answer, and ends the answer with a token.

    Raises:
        BaseUnusable: it does not, or writes a variable that nobody gives.
    """
    template = template_of(tokenizer)
    if template is None:
        raise BaseUnusable("the model has no chat template that variables could be given to", cause="chat_template")
    question = {"role": "user", "content": _QUESTION}
    answer = {"role": "assistant", "content": _ANSWER}
    _render(tokenizer, template, kwargs, [question], prompt=True)
    said = _render(tokenizer, template, kwargs, [question, answer], prompt=False)
    before, found, after = said.rpartition(_ANSWER)
    if not found or _QUESTION not in before:
        missing = "answer" if not found else "question"
        raise BaseUnusable(f"the chat template does not write the {missing} of a conversation", cause="chat_template")
    known = [str(token.content) for token in tokenizer.added_tokens_decoder.values()]
    known += [tokenizer.eos_token] if isinstance(tokenizer.eos_token, str) else []
    tail = after.lstrip()
    if not any(token and tail.startswith(token) for token in known):
        shown = repr(tail.strip()[:40]) if tail.strip() else "nothing"
        raise BaseUnusable(
            f"after an answer the chat template writes {shown}, which is no token of this tokenizer, so no "
            "answer would end; take a template of the model's own family, or add the token (special_tokens)",
            cause="stop_token",
        )


def _render(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    kwargs: Mapping[str, Any],
    messages: list[dict[str, str]],
    *,
    prompt: bool,
) -> str:
    compiled = _compile_jinja_template(template)
    compiled.environment.undefined, before = _Needed, compiled.environment.undefined
    values = {**tokenizer.special_tokens_map, **kwargs}
    try:
        return str(compiled.render(messages=messages, tools=None, add_generation_prompt=prompt, **values))
    except Exception as error:
        raise BaseUnusable(
            f"the chat template cannot render a question and an answer: {_first_line(error)}", cause="chat_template"
        ) from error
    finally:
        compiled.environment.undefined = before


def _why_not_compiled(template: str) -> str:
    try:
        _compile_jinja_template(template)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        return f"{_first_line(error)}{f' (line {line})' if line else ''}"
    return ""


def _named_templates(config: Mapping[str, Any]) -> dict[str, str]:
    listed = config.get("chat_template")
    if not isinstance(listed, list):
        return {}
    return {str(one.get("name")): str(one.get("template")) for one in listed if isinstance(one, dict)}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BaseUnusable(f"{path.name} is not JSON: {_first_line(error)}", file=path.name) from error
    if not isinstance(value, dict):
        raise BaseUnusable(f"{path.name} holds no mapping", file=path.name)
    return value


def _write(path: Path, value: Mapping[str, Any]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
