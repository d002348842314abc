"""Gives a base model that is imported what the request says: a chat template, its variables, special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anneal.kit.errors import Invalid
from anneal.training.domain.base_model import open_base_model
from anneal.training.domain.chat_files import ChatGiven, check_template, give_chat, template_kwargs
from anneal.training.domain.special_tokens import add_special_tokens
from anneal.v1 import training_service_pb2 as pb

MAX_TEMPLATE, MAX_TOKENS = 100_000, 256


def decode_chat(chat: pb.ModelChat) -> ChatGiven:
    """What a request gives, checked as far as that needs no file of the model.

    Raises:
        Invalid: a template is none, a name is not known, or the variables are no JSON object; every wrong one is named.
    """
    kwargs, violations = _decode_kwargs(chat.template_kwargs)
    if len(chat.template_text) > MAX_TEMPLATE:
        violations.append(("template_text", f"has {len(chat.template_text)} characters, more than {MAX_TEMPLATE}"))
    if len(chat.special_tokens) > MAX_TOKENS:
        violations.append(("special_tokens", f"names {len(chat.special_tokens)} tokens, more than {MAX_TOKENS}"))
    if chat.WhichOneof("template") and not getattr(chat, str(chat.WhichOneof("template"))):
        violations.append((str(chat.WhichOneof("template")), "is empty"))
    given = ChatGiven(
        template_name=chat.template_name,
        template_text=chat.template_text,
        template_choice=chat.template_choice,
        template_kwargs=kwargs,
        special_tokens=tuple(chat.special_tokens),
    )
    violations += given.violations() if not violations else []
    if violations:
        named = [(f"chat.{field}", text) for field, text in violations]
        raise Invalid("; ".join(f"{field}: {text}" for field, text in named), violations=named)
    return given


def _decode_kwargs(text: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    if not text:
        return {}, []
    try:
        value = json.loads(text)
    except ValueError as error:
        return {}, [("template_kwargs", f"is not JSON: {error}")]
    if not isinstance(value, dict):
        return {}, [("template_kwargs", f"is {type(value).__name__}, not a JSON object")]
    return value, []


def give(folder: Path, given: ChatGiven) -> list[str]:
    """Write it into the model's folder and check that it works; returns what was done, in lines for the log.

    Raises:
        BaseUnusable: the model cannot take it.
    """
    done = []
    give_chat(folder, given)
    if given.special_tokens:
        new = add_special_tokens(folder, given.special_tokens)
        known = [token for token in given.special_tokens if token not in new]
        if new:
            done.append(f"special tokens added: {', '.join(new)}; only the method full trains their embeddings")
        if known:
            done.append(f"special tokens that the tokenizer has already: {', '.join(known)}")
    template = given.template_name or given.template_choice or ("of the request" if given.template_text else "")
    if template or given.template_kwargs:
        check_template(open_base_model(folder).tokenizer, template_kwargs(folder))
    if template:
        done.append(f"chat template given: {template}")
    if given.template_kwargs:
        done.append(f"variables of the chat template: {json.dumps(dict(given.template_kwargs), ensure_ascii=False)}")
    return done
