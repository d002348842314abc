"""Every failure of a command as one line: what was wrong, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc
import yaml
from google.protobuf import json_format
from pydantic import ValidationError

from anneal.cli.client import OperationFailed
from anneal.kit.errors import Invalid, Kind, Refusal
from anneal.kit.rpc.status import decode_status, status_of

SERVER_BUG = "this is a bug of the server; its log has the trace"
GIVE_TOKEN = "give a token with --token, ANNEAL_TOKEN or `anneal config set`"

ADVICE: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.CANCELLED: "the server, or a proxy before it, ended the call: run the command again",
    grpc.StatusCode.UNKNOWN: SERVER_BUG,
    grpc.StatusCode.INVALID_ARGUMENT: "correct the request; `--help` says what the command takes",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the server took too long: run the command again, and see its log if this stays",
    grpc.StatusCode.NOT_FOUND: "check the name and --project",
    grpc.StatusCode.ALREADY_EXISTS: "choose another name",
    grpc.StatusCode.PERMISSION_DENIED: "use a token that may do this, with --token or `anneal config set`",
    grpc.StatusCode.UNAUTHENTICATED: GIVE_TOKEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: "there is no room right now: run the command again later",
    grpc.StatusCode.FAILED_PRECONDITION: "change the state that the message names, then run the command again",
    grpc.StatusCode.ABORTED: "somebody else changed it in between: run the command again",
    grpc.StatusCode.OUT_OF_RANGE: "correct the request; `--help` says what the command takes",
    grpc.StatusCode.UNIMPLEMENTED: "the server does not know this call: compare its version with `anneal`'s, and check "
    "--address",
    grpc.StatusCode.INTERNAL: SERVER_BUG,
    grpc.StatusCode.UNAVAILABLE: "start a server with `anneal up`, or name one with --address or --context",
    grpc.StatusCode.DATA_LOSS: SERVER_BUG,
}
"""What to do about a call that failed without a refusal of Anneal's own, whose text says it."""


def explain(error: BaseException) -> str:
    """An error as one line, whatever a library, a server or a job put into its text."""
    return " ".join(_text_of(error).split())


def is_expected(error: BaseException) -> bool:
    """Whether an error is one that a user can act on; everything else is a bug of this command."""
    libraries = (
        grpc.RpcError,
        ValidationError,
        json_format.Error,
        yaml.YAMLError,
        OSError,
        UnicodeError,
        json.JSONDecodeError,
    )
    return isinstance(error, libraries) or _is_ours(error)


def is_connection(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a server that cannot be reached."""
    while error is not None:
        call: Any = error
        if isinstance(error, grpc.RpcError) and call.code() is grpc.StatusCode.UNAVAILABLE:
            return True
        if isinstance(error, Refusal) and error.kind is Kind.DOWN:
            return True
        error = error.__cause__
    return False


def _is_ours(error: BaseException) -> bool:
    """Whether this package defines the error's class; the texts of those are written for people."""
    return type(error).__module__.partition(".")[0] == "anneal"


def _text_of(error: BaseException) -> str:
    if isinstance(error, OperationFailed):
        return _operation(error)
    if isinstance(error, Refusal):
        return _refusal(error)
    if isinstance(error, grpc.RpcError):
        return _call(error)
    if isinstance(error, ValidationError):
        places = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return "; ".join(places)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, json_format.Error) or _is_ours(error):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _operation(error: OperationFailed) -> str:
    refusal = decode_status(error.operation.error)
    name = error.operation.name
    if refusal is not None:
        return f"{name} failed: {_refusal(refusal)}"
    return f"{name} failed: {error.operation.error.message} (its log is under logs/{name.rsplit('/', 1)[-1]})"


def _call(error: grpc.RpcError) -> str:
    call: Any = error
    code: grpc.StatusCode = call.code()
    details = call.details() or "no more is known"
    status = status_of(error)
    refusal = decode_status(status)
    has_reason = bool(status.details)  # servers of Anneal give one; others, proxies and the library do not
    if code is grpc.StatusCode.UNAVAILABLE and not has_reason:
        return f"no server answers ({details}): {_tls_advice(details) or ADVICE[code]}"
    if refusal is not None and has_reason:
        hint = f"; {GIVE_TOKEN}" if refusal.kind is Kind.UNKNOWN_CALLER else ""
        return f"{_refusal(refusal)}{hint}"
    advice = ADVICE.get(code, SERVER_BUG)
    return f"{code.name}: {details}" if advice in details else f"{code.name}: {details}; {advice}"


def _tls_advice(details: str) -> str:
    """What to do about a failed handshake, of which gRPC has nothing but the text."""
    lowered = details.lower()
    if "certificate_verify_failed" in lowered or "hostname verification" in lowered:
        return "name the authority that signed its certificate with ANNEAL_TLS__CA or `anneal config set --ca`"
    if "certificate_required" in lowered or "bad_certificate" in lowered:
        return "it asks for a client's certificate: give one with ANNEAL_TLS__CERT and ANNEAL_TLS__KEY"
    if "ssl" in lowered or "handshake" in lowered or "tls" in lowered:
        return "one side speaks TLS and the other does not: compare --address and ANNEAL_TLS__CA with the server"
    return ""


def _refusal(refusal: Refusal) -> str:
    text = str(refusal)
    if isinstance(refusal, Invalid):
        named = [f"{path}: {what}" for path, what in refusal.violations if f"{path}: {what}" not in text]
        text = "; ".join([text, *named])
    wait = "" if refusal.retry_after_s is None else f"; try again in {refusal.retry_after_s:g} s"
    return f"{text} ({refusal.reason}){wait}"
