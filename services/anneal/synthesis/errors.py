"""What synthesis refuses beyond a wrong request."""

from __future__ import annotations

from anneal.kit.errors import NotYet


class TeacherDeclined(NotYet):
    """The teacher refuses every call: its model, key or address is wrong."""

    reason = "TEACHER_REFUSED"


class NothingToWorkOn(NotYet):
    """No part of the source meets the recipe's conditions."""

    reason = "NOTHING_TO_WORK_ON"
