"""What the launcher needs to know of a kind of object that runs attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from anneal.kit.jobs.kubernetes.ends import Thing
from anneal.kit.jobs.kubernetes.resources import Resource
from anneal.kit.jobs.launcher import Attempt, Ended
from anneal.kit.jobs.pending import Pending


class Form(Protocol):
    """How attempts are written as objects of one kind, and read again.

    Attributes:
        resource: the kind.
    """

    resource: Resource

    def build(self, attempt: Attempt) -> dict[str, Any]:
        """The object of an attempt.

        Raises:
            DemandTooWide: its demand exceeds the settings.
        """

    def read(self, job: Thing, pods: Sequence[Thing], gone: Sequence[Thing]) -> Ended | Pending | None:
        """Where an attempt is: ended, waiting, or None while it runs.

        Args:
            job: its object.
            pods: its pods.
            gone: its pods that were deleted, as they were last.
        """

    def silent(self, pods: Sequence[Thing]) -> Ended | None:
        """Why nothing is heard of an attempt that runs in these pods."""

    def is_over(self, job: Thing) -> bool:
        """Whether the object has ended."""
