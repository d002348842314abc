"""What synthesis refuses beyond a wrong request."""

from __future__ import annotations

from anneal.kit.errors import Down, NotYet


class TeacherDeclined(NotYet):
    """The teacher refuses every call: its model, key or address is wrong."""

    reason = "TEACHER_REFUSED"


class TeacherAway(Down):
    """The teacher has no free place or no server, for longer than is waited."""

    reason = "TEACHER_AWAY"
    has_waited = True


class NothingToWorkOn(NotYet):
    """No part of the source meets the recipe's conditions."""

    reason = "NOTHING_TO_WORK_ON"


class NothingLeft(NotYet):
    """No row was kept, and the order does not allow an empty version."""

    reason = "DATASET_EMPTY"
