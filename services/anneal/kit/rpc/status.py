"""Refusals on the wire: AIP-193 statuses, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from anneal.kit import errors
from anneal.kit.errors import Invalid, Kind, Refusal, ServiceMisconfigured, ServiceUnreachable

DOMAIN = "anneal.dev"

CODES: Mapping[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.MISSING: grpc.StatusCode.NOT_FOUND,
    Kind.EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.NOT_YET: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.CONFLICT: grpc.StatusCode.ABORTED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.UNKNOWN_CALLER: grpc.StatusCode.UNAUTHENTICATED,
    Kind.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.DOWN: grpc.StatusCode.UNAVAILABLE,
    Kind.TOO_LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_KINDS = {code.value[0]: kind for kind, code in CODES.items()}
_BASES: Mapping[Kind, type[Refusal]] = {
    Kind.INVALID: errors.Invalid,
    Kind.MISSING: errors.Missing,
    Kind.EXISTS: errors.Exists,
    Kind.NOT_YET: errors.NotYet,
    Kind.CONFLICT: errors.Conflict,
    Kind.DENIED: errors.Denied,
    Kind.UNKNOWN_CALLER: errors.Unauthenticated,
    Kind.BUSY: errors.Busy,
    Kind.DOWN: errors.Down,
    Kind.TOO_LATE: errors.TooLate,
}
RETRYABLE = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)


def encode_refusal(refusal: Refusal) -> status_pb2.Status:
    """A refusal as a status with one ErrorInfo, and BadRequest or RetryInfo where they apply."""
    status = status_pb2.Status(code=CODES[refusal.kind].value[0], message=str(refusal))
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN, metadata=refusal.facts)
    status.details.add().Pack(info)
    if isinstance(refusal, Invalid) and refusal.violations:
        bad = error_details_pb2.BadRequest()
        for path, description in refusal.violations:
            bad.field_violations.add(field=path, description=description)
        status.details.add().Pack(bad)
    if refusal.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(refusal.retry_after_s * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def internal_status(what: str) -> status_pb2.Status:
    """The status of a bug: it says that it is one, and nothing of its text."""
    status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message=what)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN))
    return status


def decode_status(status: status_pb2.Status) -> Refusal | None:
    """The refusal behind a status; None for codes that are not refusals, such as INTERNAL."""
    kind = _KINDS.get(status.code)
    base = _BASES.get(kind) if kind is not None else None
    if base is None:
        return None
    reason, facts, violations, retry = base.reason, {}, [], None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        wait = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, facts = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(wait):
            retry = wait.retry_delay.ToMilliseconds() / 1000
    made: Refusal = type(base.__name__, (base,), {"reason": reason})(status.message)
    made.facts, made.retry_after_s = facts, retry
    if isinstance(made, Invalid):
        made.violations = tuple(violations)
    return made


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The status a failed call carries, with its details where the server sent some."""
    call: Any = error
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, TypeError, AttributeError):
        rich = None
    if rich is not None:
        return rich
    return status_pb2.Status(code=call.code().value[0], message=call.details() or "")


def passed_on(error: grpc.RpcError) -> status_pb2.Status:
    """What the failure of a call to another service is to the caller of this one.

    A refusal is passed on in its own words. What only says that the two services do not come together becomes one; what
    broke in the other service is a bug of ours.
    """
    status, call = status_of(error), error
    code = getattr(call, "code", lambda: grpc.StatusCode.UNKNOWN)()
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return encode_refusal(
            ServiceMisconfigured(
                f"another service does not accept the token of this one: give both one of ANNEAL_TOKENS in common "
                f"({status.message})"
            )
        )
    if status.details:
        return status
    if code is grpc.StatusCode.UNAVAILABLE:
        return encode_refusal(
            ServiceUnreachable(f"another service does not answer (ANNEAL_ADDRESSES): {_line(status.message)}")
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return encode_refusal(
            ServiceMisconfigured(
                "another service does not know this call: it is of another release, or its address (ANNEAL_ADDRESSES) "
                f"is that of something else: {_line(status.message)}"
            )
        )
    refusal = decode_status(status) if code in RETRYABLE else None
    if refusal is not None:  # grpc's own words, which carry no reason
        return encode_refusal(refusal)
    return internal_status("another service of Anneal failed; its log has the trace")


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def refusal_of(error: grpc.RpcError) -> Refusal | None:
    """The refusal behind a failed call; None when it was a bug of the server."""
    return decode_status(status_of(error))
