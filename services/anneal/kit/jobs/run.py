"""The process of one attempt: claim, run the body, report, hand over. Started by a launcher with `ANNEAL_JOB` set."""

from __future__ import annotations

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
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from anneal.kit.errors import Refusal
from anneal.kit.jobs.context import Cancelled, JobContext
from anneal.kit.jobs.launcher import die_with_parent
from anneal.kit.rpc.channels import open_channel
from anneal.kit.rpc.status import RETRYABLE, encode_refusal, internal_status, status_of
from anneal.kit.store import Store
from anneal.v1 import job_host_service_pb2 as pb
from anneal.v1 import job_host_service_pb2_grpc as pb_grpc

HEARTBEAT_S = 1.0
HAND_OVER_TRIES = 20


def load(path: str) -> Any:
    """The object behind `module:name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class Heart:
    """Sends heartbeats from a thread; ends the process when the attempt is fenced or the host is gone for good."""

    def __init__(self, stub: pb_grpc.JobHostServiceStub, context: JobContext, token: str, lease_s: float) -> None:
        self._stub, self._context, self._token, self._lease_s = stub, context, token, lease_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._batch = 0
        self._waiting: pb.HeartbeatRequest | None = None

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is left and stop."""
        self._stop.set()
        self._thread.join()
        while self._send():
            pass

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._send()
                last = time.monotonic()
            except grpc.RpcError as error:
                call: Any = error
                fenced = call.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)
                if fenced or time.monotonic() - last > self._lease_s:
                    print(f"heartbeat: {call.details()}; this attempt is over", file=sys.stderr, flush=True)  # noqa: T201
                    os.kill(os.getpid(), signal.SIGKILL)

    def _send(self) -> bool:
        """Send one batch; the same batch again when the last try failed. True when there may be more."""
        if self._waiting is None:
            self._batch += 1
            self._waiting = pb.HeartbeatRequest(
                operation=self._context.operation,
                attempt_token=self._token,
                batch=self._batch,
                events=self._context.take_events(),
            )
        answer = self._stub.Heartbeat(self._waiting, timeout=10)
        had_events = bool(self._waiting.events)
        self._waiting = None
        if answer.cancel:
            self._context.cancel()
        return had_events


def _patiently(call: Callable[[Any], Any], request: Any) -> None:
    """Call until it is answered: a result is not thrown away because the host restarts."""
    for tries in range(HAND_OVER_TRIES):
        try:
            call(request)
            return
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() not in RETRYABLE or tries == HAND_OVER_TRIES - 1:
                print(f"hand-over: {failed.details()}", file=sys.stderr, flush=True)  # noqa: T201
                return
            time.sleep(1.0)


def _failure(error: Exception) -> tuple[status_pb2.Status, bool]:
    """What a failed body's exception means: a status, and whether another attempt may do better."""
    if isinstance(error, Refusal):
        return encode_refusal(error), False
    if isinstance(error, grpc.RpcError):
        status, call = status_of(error), error
        code = getattr(call, "code", lambda: grpc.StatusCode.UNKNOWN)()
        if status.details and code not in RETRYABLE and code is not grpc.StatusCode.INTERNAL:
            return status, False
        return internal_status(f"another service failed: {code.name}: {status.message}"), True
    text = str(error).strip().splitlines()
    return internal_status(f"the job failed with {type(error).__name__}: {text[0][:300] if text else ''}"), True


def run(config: Mapping[str, Any]) -> int:
    """Run one attempt; returns the exit code of the process."""
    stub = pb_grpc.JobHostServiceStub(open_channel(config["host"], config["token"]))
    operation = config["operation"]
    claimed = stub.ClaimJob(pb.ClaimJobRequest(operation=operation, claim=config["claim"]), timeout=30)
    context = JobContext(
        operation=operation,
        attempt=claimed.attempt,
        store=Store(config["store_url"], Path(config["cache"]), config["store_options"]),
        scratch=Path(config["scratch"]),
        addresses=config["addresses"],
        token=config["token"],
        options=config["options"],
    )
    told_to_stop = threading.Event()

    def on_term(_number: int, _frame: Any) -> None:
        told_to_stop.set()
        context.cancel()

    signal.signal(signal.SIGTERM, on_term)
    heart = Heart(stub, context, claimed.attempt_token, claimed.lease_seconds)
    heart.start()
    fail = pb.FailJobRequest(operation=operation, attempt_token=claimed.attempt_token)
    try:
        body = load(config["body"])
        request: Message = load(config["request_type"])()
        claimed.request.Unpack(request)
        result = body(context, request)
    except Cancelled:
        fail.error.CopyFrom(internal_status("the attempt was stopped"))
        fail.cancelled = True
    except Exception as error:  # noqa: BLE001 - the job runner: a body's failure becomes the job's state
        traceback.print_exc()
        status, fail.retryable = _failure(error)
        fail.error.CopyFrom(status)
        # Told to stop by the machine, a body may fall over what was stopped with it; that is no failure of its own.
        fail.cancelled = fail.retryable and told_to_stop.is_set()
    else:
        heart.stop()
        packed = any_pb2.Any()
        packed.Pack(result)
        done = pb.CompleteJobRequest(operation=operation, attempt_token=claimed.attempt_token, result=packed)
        _patiently(lambda order: stub.CompleteJob(order, timeout=300), done)
        return 0
    heart.stop()
    _patiently(lambda order: stub.FailJob(order, timeout=30), fail)
    return 0 if fail.cancelled else 1


def main() -> None:
    """Entry point of the process."""
    parent = os.getppid()
    die_with_parent(parent)
    config = json.loads(os.environ.pop("ANNEAL_JOB"))
    code = run(config)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # bodies may leave threads of libraries behind that would keep the process


if __name__ == "__main__":
    main()
