"""The process of one attempt: claim, run the body, report, hand over.

A launcher starts it with its configuration as JSON in `ANNEAL_JOB`, or in the file that `ANNEAL_JOB_FILE` names.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from anneal.kit.disk import full_disk
from anneal.kit.errors import Refusal
from anneal.kit.jobs.context import Cancelled, JobContext
from anneal.kit.jobs.launcher import AWAY_CODE
from anneal.kit.options import TlsOptions
from anneal.kit.rpc.channels import open_channel
from anneal.kit.rpc.status import RETRYABLE, encode_refusal, internal_status, passed_on
from anneal.kit.rpc.waiting import SERVICE_WAIT_S, text_of
from anneal.kit.store import Store
from anneal.kit.tied import die_with_parent
from anneal.v1 import job_host_service_pb2 as pb
from anneal.v1 import job_host_service_pb2_grpc as pb_grpc

HEARTBEAT_S = 1.0
"""Between two heartbeats; less with a lease of less than four."""
HEARTBEAT_DEADLINE_S = 10
HAND_OVER_S = SERVICE_WAIT_S
"""Least wait for a host that does not answer, or that cannot publish; a longer one with a longer lease, or where the
launcher says so."""
HAND_OVER_PAUSE_S = 1.0
CLAIM_S = 60.0
CLAIM_DEADLINE_S = 30
COMPLETE_DEADLINE_S = 300
FAIL_DEADLINE_S = 30


def load(path: str) -> Any:
    """The object behind `module:name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class NotTaken(Exception):
    """The host refused what it was told, or did not answer.

    Attributes:
        code: exit code of a process that ends for it.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Heart:
    """Sends heartbeats from a thread; ends the process when the attempt is fenced or the host is gone for good.

    It beats until the outcome is handed over, however long its publication takes. From `finish` on it ends nothing: a
    heartbeat that the host answers after the outcome is fenced, and what became of the attempt the hand-over is told.
    """

    def __init__(
        self, stub: pb_grpc.JobHostServiceStub, context: JobContext, token: str, *, lease_s: float, away_s: float
    ) -> None:
        self._stub, self._context, self._token = stub, context, token
        self._every_s = min(HEARTBEAT_S, lease_s / 4)
        self._away_s = max(lease_s, away_s)
        self.patience_s = max(HAND_OVER_S, self._away_s)
        self._finishing = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._sending = threading.Lock()
        self._batch = 0
        self._waiting: pb.HeartbeatRequest | None = None

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def finish(self, parent: int) -> None:
        """Send every event that is left and go on beating; call it when the body has ended."""
        self._finishing.set()
        with contextlib.suppress(NotTaken):
            _patiently("the last heartbeat", self._flush, parent, self.patience_s)

    def stop(self) -> None:
        """Stop beating: the outcome is handed over."""
        self._stop.set()
        self._thread.join(HEARTBEAT_DEADLINE_S)

    def _flush(self) -> None:
        while self._send():
            pass

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(self._every_s):
            try:
                self._send()
                last = time.monotonic()
            except grpc.RpcError as error:
                call: Any = error
                fenced = call.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)
                if self._finishing.is_set():
                    if fenced:
                        return
                elif fenced or time.monotonic() - last > self._away_s:
                    print(f"heartbeat: {call.details()}; this attempt is over", file=sys.stderr, flush=True)  # noqa: T201
                    os._exit(1 if fenced else AWAY_CODE)  # no signal: the first process of a container gets none

    def _send(self) -> bool:
        """Send one batch; the same batch again when the last try failed. True when there may be more."""
        with self._sending:
            if self._waiting is None:
                self._batch += 1
                self._waiting = pb.HeartbeatRequest(
                    operation=self._context.operation,
                    attempt_token=self._token,
                    batch=self._batch,
                    events=self._context.take_events(),
                )
            answer = self._stub.Heartbeat(self._waiting, timeout=HEARTBEAT_DEADLINE_S)
            had_events = bool(self._waiting.events)
            self._waiting = None
        if answer.cancel:
            self._context.cancel()
        return had_events


def _patiently(
    what: str, call: Callable[[], Any], parent: int, patience_s: float, waiting: Callable[[str], None] = lambda _: None
) -> Any:
    """Call until it is answered: a result is not thrown away because the host is busy or away for a while.

    Args:
        what: how the call is named where it fails.
        call: sends it once.
        parent: process that started this one; without it nobody waits for an answer.
        patience_s: how long a host that does not answer is waited for.
        waiting: receives a line that says what is waited for, before each further try.

    Raises:
        NotTaken: it was refused, or nobody answered in that time.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            failed: Any = error
            is_last = time.monotonic() >= deadline or os.getppid() != parent
            if failed.code() not in RETRYABLE or is_last:
                print(f"{what}: {failed.details()}", file=sys.stderr, flush=True)  # noqa: T201
                raise NotTaken(AWAY_CODE if failed.code() in RETRYABLE else 1) from error
            waiting(f"waiting for the {what}: {text_of(error)}")
            time.sleep(HAND_OVER_PAUSE_S)


def _failure(error: Exception, scratch: Path) -> tuple[status_pb2.Status, bool]:
    """What a failed body's exception means: a status, and whether another attempt may do better."""
    if isinstance(error, Refusal):
        return encode_refusal(error), error.kind.passes and not error.has_waited
    if (full := full_disk(error, scratch)) is not None:
        return encode_refusal(full), False
    if isinstance(error, grpc.RpcError):
        status = passed_on(error)
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        return status, code in RETRYABLE or code is grpc.StatusCode.INTERNAL
    text = str(error).strip().splitlines()
    return internal_status(f"the job failed with {type(error).__name__}: {text[0][:300] if text else ''}"), True


def run(config: Mapping[str, Any], parent: int) -> int:
    """Run one attempt for the process that started this one; returns the exit code of the process."""
    tls = TlsOptions.model_validate(config.get("tls", {}))
    stub = pb_grpc.JobHostServiceStub(open_channel(config["host"], config["token"], tls))
    operation = config["operation"]
    claim = pb.ClaimJobRequest(operation=operation, claim=config["claim"])
    away_s = float(config["away_s"])
    try:
        claimed = _patiently(
            "claim", lambda: stub.ClaimJob(claim, timeout=CLAIM_DEADLINE_S), parent, max(CLAIM_S, away_s)
        )
    except NotTaken as failed:
        return failed.code
    scratch = Path(config["scratch"])
    scratch.mkdir(parents=True, exist_ok=True)
    context = JobContext(
        operation=operation,
        attempt=claimed.attempt,
        store=Store(config["store_url"], Path(config["cache"]), config["store_options"]),
        scratch=scratch,
        addresses=config["addresses"],
        token=config["token"],
        options=config["options"],
        tls=tls,
    )
    told_to_stop = threading.Event()

    def on_term(_number: int, _frame: Any) -> None:
        told_to_stop.set()
        context.cancel()

    signal.signal(signal.SIGTERM, on_term)
    heart = Heart(stub, context, claimed.attempt_token, lease_s=claimed.lease_seconds, away_s=away_s)
    heart.start()
    outcome = _outcome(config, claimed, context, told_to_stop.is_set)
    heart.finish(parent)
    try:
        code = _hand_over(stub, outcome, context, parent, heart.patience_s)
    except NotTaken as failed:
        code = failed.code
    heart.stop()
    return code


def _hand_over(
    stub: pb_grpc.JobHostServiceStub,
    outcome: pb.CompleteJobRequest | pb.FailJobRequest,
    context: JobContext,
    parent: int,
    patience_s: float,
) -> int:
    """Send the outcome until it is taken; returns the exit code of the process.

    A result that cannot be published yet is given up when the job is asked to stop.
    """
    tries = 0

    def send() -> None:
        nonlocal tries
        tries += 1
        if isinstance(outcome, pb.FailJobRequest):
            stub.FailJob(outcome, timeout=FAIL_DEADLINE_S)
        elif tries > 1 and context.is_cancelled:
            stub.FailJob(_stopped(outcome), timeout=FAIL_DEADLINE_S)
        else:
            stub.CompleteJob(outcome, timeout=COMPLETE_DEADLINE_S)

    if isinstance(outcome, pb.FailJobRequest):
        _patiently("hand-over", send, parent, patience_s)
        return 0 if outcome.cancelled else 1
    _patiently("publication of the result", send, parent, patience_s, context.waiting)
    return 0


def _outcome(
    config: Mapping[str, Any], claimed: pb.ClaimJobResponse, context: JobContext, was_told: Callable[[], bool]
) -> pb.CompleteJobRequest | pb.FailJobRequest:
    """Run the body; what there is to hand over.

    Args:
        config: the process's configuration.
        claimed: the order and the attempt's token.
        context: given to the body.
        was_told: whether the machine has told this process to stop.
    """
    fail = pb.FailJobRequest(operation=context.operation, attempt_token=claimed.attempt_token)
    try:
        body = load(config["body"])
        request: Message = load(config["request_type"])()
        claimed.request.Unpack(request)
        result = body(context, request)
    except Cancelled:
        return _stopped(fail)
    except Exception as error:  # noqa: BLE001 - the job runner: a body's failure becomes the job's state
        traceback.print_exc()
        status, fail.retryable = _failure(error, context.scratch)
        fail.error.CopyFrom(status)
        # Told to stop by the machine, a body may fall over what was stopped with it; that is no failure of its own.
        fail.cancelled = fail.retryable and was_told()
        return fail
    done = pb.CompleteJobRequest(operation=context.operation, attempt_token=claimed.attempt_token)
    done.result.Pack(result)
    return done


def _stopped(attempt: pb.CompleteJobRequest | pb.FailJobRequest) -> pb.FailJobRequest:
    """The outcome of an attempt that was asked to stop."""
    return pb.FailJobRequest(
        operation=attempt.operation,
        attempt_token=attempt.attempt_token,
        error=internal_status("its process was asked to stop (SIGTERM) by its machine or its cluster"),
        cancelled=True,
    )


def read_config() -> Mapping[str, Any]:
    """What the launcher said; children of this process do not inherit it."""
    file = os.environ.pop("ANNEAL_JOB_FILE", "")
    config: Mapping[str, Any] = json.loads(Path(file).read_text() if file else os.environ.pop("ANNEAL_JOB"))
    return config


def main() -> None:
    """Entry point of the process."""
    parent = os.getppid()
    if "ANNEAL_JOB_FILE" not in os.environ:  # a pod ends its processes itself, and who starts them is no server
        die_with_parent(parent)
    code = run(read_config(), parent)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # bodies may leave threads of libraries behind that would keep the process


if __name__ == "__main__":
    main()
