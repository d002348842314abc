"""The chat template of `kit/chat` in the words of training: what it refuses is a refusal that names the row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anneal.kit.chat.conversation import ChatTemplate, Turn
from anneal.kit.chat.errors import (
    ChatError,
    ChatTemplateMissing,
    LeftOut,
    Malformed,
    NoStop,
    NothingToLearn,
    TemplateRewrites,
)
from anneal.kit.chat.errors import TemplateRefuses as Raises
from anneal.kit.chat.options import ChatOptions, listed_stops, read_options
from anneal.training.domain.errors import (
    NoAssistantTurn,
    RowLeftOut,
    RowMalformed,
    StopTokenMissing,
    TemplateMissing,
    TemplateRefuses,
    TemplateUnstable,
    TrainingRefused,
)

_REFUSALS: Mapping[type[ChatError], type[TrainingRefused]] = {
    ChatTemplateMissing: TemplateMissing,
    Raises: TemplateRefuses,
    TemplateRewrites: TemplateUnstable,
    LeftOut: RowLeftOut,
    NothingToLearn: NoAssistantTurn,
    NoStop: StopTokenMissing,
    Malformed: RowMalformed,
}


@contextmanager
def refusing(row_id: str) -> Iterator[None]:
    """Turn what a chat template refuses into a refusal of training.

    Raises:
        TrainingRefused: see `_REFUSALS`; it names the row and the field.
    """
    try:
        yield
    except ChatError as error:
        at = f"row {row_id}, {error.field}: " if error.field else f"row {row_id}: "
        made = _REFUSALS.get(type(error), TemplateRefuses)
        raise made(f"{at}{error}", row_id=row_id, field=error.field) from error


def open_template(
    folder: Path, tokenizer: Any, template_kwargs: str = "", *, allows_left_out: bool = False
) -> ChatTemplate:
    """The chat template of a base model, with the variables of an order over the model's own.

    Args:
        folder: of the base model.
        tokenizer: the base model's.
        template_kwargs: variables as JSON text; empty for none.
        allows_left_out: the order allows rows of which the template leaves out a part.
    """
    kwargs = json.loads(template_kwargs) if template_kwargs else {}
    own = ChatOptions(template_kwargs=kwargs, allows_left_out=allows_left_out)
    return ChatTemplate(tokenizer, own.over(read_options(folder)), stops=listed_stops(folder))


__all__ = ["ChatTemplate", "Turn", "open_template", "refusing"]
