"""What curation refuses beyond a wrong request."""

from __future__ import annotations

from anneal.kit.errors import Down, NotYet


class IndexIncomplete(NotYet):
    """A benchmark item cannot be indexed, so nothing can be said to be free of it."""

    reason = "INDEX_INCOMPLETE"


class AlreadySplit(NotYet):
    """The rows have splits; splitting them again could move a test row into training."""

    reason = "ALREADY_SPLIT"


class TooManyUnscored(NotYet):
    """A scorer leaves so many rows unscored that its scores say nothing about the dataset."""

    reason = "TOO_MANY_UNSCORED"


class JudgeRefused(NotYet):
    """A judge refuses every call: its model, key or address is wrong."""

    reason = "JUDGE_REFUSED"


class ModelUnfit(NotYet):
    """A model cannot score: it cannot be read, has no trained head, or another one than the step needs."""

    reason = "MODEL_UNFIT"


class NotInstalled(NotYet):
    """A library that a step needs is not installed where the job runs."""

    reason = "NOT_INSTALLED"


class EncoderUnusable(NotYet):
    """The encoder that an order names cannot be used here: not installed, not found, or it refuses every text."""

    reason = "ENCODER_UNUSABLE"


class EncoderAway(Down):
    """The endpoint of an encoder does not answer, or is busy, after all attempts."""

    reason = "ENCODER_AWAY"
    has_waited = True


class EncoderChanged(NotYet):
    """The encoder gives vectors of another dimension than it should: its vectors cannot be compared."""

    reason = "ENCODER_CHANGED"


class TooManyRows(NotYet):
    """More rows than a method can compare."""

    reason = "TOO_MANY_ROWS"


class NothingLeft(NotYet):
    """Every row was removed, and the order does not allow an empty version."""

    reason = "DATASET_EMPTY"
