"""Refusals of evaluation, each with its stable reason."""

from __future__ import annotations

from anneal.kit.errors import Exists, NotYet


class EvaluationExists(Exists):
    """The evaluation's name is taken."""

    reason = "EVALUATION_EXISTS"


class NothingInCommon(NotYet):
    """Two evaluations share no benchmark and metric."""

    reason = "NOTHING_IN_COMMON"
