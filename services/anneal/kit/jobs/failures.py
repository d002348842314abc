"""What a job fails with when its attempts ended in a way that is no bug of the service."""

from __future__ import annotations

from anneal.kit.errors import Busy, Down, NotYet, TooLate


class InterruptedTooOften(Busy):
    """The job's attempts ended with their server, their machine or by the cluster's doing, time and again."""

    reason = "JOB_INTERRUPTED"


class NotAccepted(NotYet):
    """The cluster refuses the object of the job; the same object would be refused again."""

    reason = "JOB_NOT_ACCEPTED"


class Silent(Down):
    """The job's processes did not claim their work, or stopped sending heartbeats."""

    reason = "JOB_SILENT"


class Evicted(NotYet):
    """The job's pods were evicted because they used more disk than they may."""

    reason = "JOB_EVICTED"


class TooSlow(TooLate):
    """The job's attempts ran longer than `launcher.deadline_s`."""

    reason = "JOB_TOO_SLOW"
