"""Refusals: errors a caller can act on, named without any transport's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """What the caller can do about a refusal."""

    INVALID = "fix the request"
    MISSING = "name something that exists"
    EXISTS = "choose another name"
    NOT_YET = "change the system's state first"
    CONFLICT = "read again, then retry"
    DENIED = "ask for the right"
    UNKNOWN_CALLER = "present a credential"
    BUSY = "send the same request later"
    DOWN = "send the same request when the service is back"
    TOO_LATE = "allow more time"

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later, though nobody changes anything."""
        return self in (Kind.BUSY, Kind.DOWN, Kind.TOO_LATE)


class Refusal(Exception):
    """Base of every expected failure. Subclasses fix `kind` and `reason`.

    `facts` holds each value the message mentions, so that no client ever parses the text.

    Attributes:
        retry_after_s: seconds after which the same request may succeed; None when waiting does not help.
    """

    kind: ClassVar[Kind]
    reason: ClassVar[str]
    waits_s: ClassVar[float | None] = None
    """What `retry_after_s` is where nothing else is known."""
    has_waited: ClassVar[bool] = False
    """Whether it is raised at the end of a wait, so that a job that meets it is not tried again."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, **facts: str) -> None:
        super().__init__(message)
        self.retry_after_s = self.waits_s if retry_after_s is None else retry_after_s
        self.facts = facts


class Invalid(Refusal):
    """The request itself is wrong; `violations` says where.

    Attributes:
        violations: pairs of field path, such as `spec.lora.rank`, and what is wrong with it.
    """

    kind = Kind.INVALID
    reason = "INVALID_REQUEST"

    def __init__(self, message: str, *, violations: Sequence[tuple[str, str]] = (), **facts: str) -> None:
        super().__init__(message, retry_after_s=None, **facts)
        self.violations = tuple(violations)

    @classmethod
    def field(cls, path: str, description: str) -> Invalid:
        """One wrong field."""
        return cls(f"{path}: {description}", violations=[(path, description)])


class Missing(Refusal):
    """What the request names does not exist."""

    kind = Kind.MISSING
    reason = "RESOURCE_MISSING"


class Exists(Refusal):
    """The name is taken."""

    kind = Kind.EXISTS
    reason = "RESOURCE_EXISTS"


class RequestIdReused(Exists):
    """The same request id came with other content."""

    reason = "REQUEST_ID_REUSED"


class NotYet(Refusal):
    """The system is not in the state the request needs."""

    kind = Kind.NOT_YET
    reason = "PRECONDITION_FAILED"


class Conflict(Refusal):
    """Somebody else changed it in between."""

    kind = Kind.CONFLICT
    reason = "CONFLICT"


class Denied(Refusal):
    """The caller may not do this."""

    kind = Kind.DENIED
    reason = "PERMISSION_DENIED"


class Unauthenticated(Refusal):
    """The caller did not say who it is."""

    kind = Kind.UNKNOWN_CALLER
    reason = "CREDENTIALS_MISSING"


class Busy(Refusal):
    """There is no room right now."""

    kind = Kind.BUSY
    reason = "RESOURCE_EXHAUSTED"


class Down(Refusal):
    """Something needed does not answer."""

    kind = Kind.DOWN
    reason = "SERVICE_DOWN"
    waits_s = 5.0


class ServiceUnreachable(Down):
    """Another service that this one calls does not answer."""

    reason = "SERVICE_UNREACHABLE"


class ServiceMisconfigured(NotYet):
    """Another service that this one calls does not take its calls: by its credentials, its address or its release."""

    reason = "SERVICE_MISCONFIGURED"


class NotReady(Down):
    """A part that this process stands on is not there yet. The process waits; the text says for what."""

    reason = "NOT_READY"


class BackendFault(Refusal):
    """Something that a process stands on refused or did not answer: its object store or its database.

    Subclasses are of a kind, too: `NotYet` where an operator has to act, `Down` where waiting may help.

    Attributes:
        backend: `store` or `database`.
    """

    backend: ClassVar[str]


class TooLate(Refusal):
    """It took longer than the caller, or the server, waits."""

    kind = Kind.TOO_LATE
    reason = "DEADLINE_EXCEEDED"
