"""Why a conversation cannot be rendered or learned: each error names the field, the cause and what to do."""

from __future__ import annotations

from typing import ClassVar


class ChatError(ValueError):
    """A conversation that this model's chat template cannot take.

    Attributes:
        cause: stable name of the kind, for programs.
        field: the part of the row that is meant, such as `messages[2].reasoning`; empty where it is the whole row.
    """

    cause: ClassVar[str] = "chat"

    def __init__(self, message: str, *, field: str = "") -> None:
        """Keep the message, which ends neither in a row's id nor in a full stop, and the field."""
        super().__init__(message)
        self.field = field


class ChatTemplateMissing(ChatError):
    """The model has no chat template that can be used."""

    cause = "no_template"


class TemplateRefuses(ChatError):
    """The chat template raises, or gives no text."""

    cause = "template_refuses"


class TemplateRewrites(ChatError):
    """The template writes a finished turn otherwise than its generation prompt begins it."""

    cause = "template_rewrites"


class LeftOut(ChatError):
    """The template does not render a part of the row."""

    cause = "left_out"


class NothingToLearn(ChatError):
    """There is no turn of the assistant that is to be learned, or nothing stands before it."""

    cause = "nothing_to_learn"


class NoStop(ChatError):
    """Nothing ends a turn: neither the template, the tokenizer nor the generation configuration names a token."""

    cause = "no_stop"


class Malformed(ChatError):
    """A part of the row is not what a chat template takes, such as tools that are no JSON."""

    cause = "malformed"
