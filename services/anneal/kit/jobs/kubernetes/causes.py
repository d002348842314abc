"""Why the cluster's API refuses an object, by the message of the API server: its codes and reasons do not say.

Messages: Kubernetes 1.31-1.37, `apiserver/pkg/admission/plugin/{resourcequota,webhook,policy/validating}`. A quota
answers 403 Forbidden like missing rights, and so do webhooks. The same messages come in events of the Job controller.
"""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """What refuses an object."""

    QUOTA = ("exceeded quota: ", "status unknown for quota: ")
    WEBHOOK_AWAY = ("failed calling webhook ", "failed to call webhook")
    DENIED = (
        "denied the request",
        "denied request:",
        "failed quota: ",
        "violates PodSecurity ",
        " usage per Container is ",
        " usage per Pod is ",
    )


def cause_of(message: str) -> Cause | None:
    """The cause that a message names; None where it names none of these."""
    return next((cause for cause in Cause if any(text in message for text in cause.value)), None)
