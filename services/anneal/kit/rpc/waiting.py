"""Waiting for a service that is away: the same call is sent again until it is answered or the time is up.

A service is away while its name does not resolve, its port refuses, it is not ready, it has no room, or a rollout cuts
its calls. Every other refusal is final and is raised at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from anneal.kit.errors import Down
from anneal.kit.rpc.status import decode_status, status_of

SERVICE_WAIT_S = 1800.0
"""How long a job waits for another service: longer than a rollout, an upgrade or the loss of a node takes."""
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
POLL_S = 0.2
TEXT_CHARACTERS = 300

_T = TypeVar("_T")
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
"""CANCELLED comes from a server that stops: what the caller itself cancels never gets here."""


class ServiceUnavailable(Down):
    """A service did not answer for as long as a caller waits."""

    reason = "SERVICE_UNAVAILABLE"
    has_waited = True


class RegistryUnavailable(ServiceUnavailable):
    """The registry did not answer for as long as a caller waits."""

    reason = "REGISTRY_UNAVAILABLE"


class ServingUnavailable(ServiceUnavailable):
    """The serving service did not answer for as long as a caller waits."""

    reason = "SERVING_UNAVAILABLE"


_REFUSALS: Mapping[str, type[ServiceUnavailable]] = {"registry": RegistryUnavailable, "serving": ServingUnavailable}


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How a caller waits for a service.

    Attributes:
        service: name of the service, for texts and for the reason of the refusal.
        seconds: longest wait for the answer to one call, all tries together.
        check: called several times a second while nothing happens; what it raises ends the wait.
        report: receives one line that says what is waited for, and an empty text when the wait is over.
    """

    service: str
    seconds: float = SERVICE_WAIT_S
    check: Callable[[], None] = _nothing
    report: Callable[[str], None] = _nothing


def is_temporary(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later.

    RESOURCE_EXHAUSTED without details is gRPC's own and means a message beyond its limit, which no wait makes shorter.
    """
    call: Any = error
    code = call.code()
    return code in _AWAY or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and bool(status_of(error).details))


def text_of(error: grpc.RpcError) -> str:
    """One line that says how a call failed."""
    call: Any = error
    lines = str(call.details() or "").strip().splitlines()
    return (lines[0] if lines else call.code().name)[:TEXT_CHARACTERS]


class _Tries:
    """Counts the failed tries of one call, and decides whether there is another one."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._since = time.monotonic()
        self._failed = 0

    @property
    def left_s(self) -> float:
        """Seconds until the time is up; at least one, so that a call can always be sent."""
        return max(1.0, self._since + self._wait.seconds - time.monotonic())

    def pause_s(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next try.

        Raises:
            RpcError: the failure is final.
            ServiceUnavailable: the time is up.
        """
        if not is_temporary(error):
            raise error
        service, text = self._wait.service, text_of(error)
        left = self._since + self._wait.seconds - time.monotonic()
        if left <= 0:
            refused = _REFUSALS.get(service, ServiceUnavailable)
            raise refused(
                f"{service} did not answer for {self._wait.seconds:.0f} s: {text}", service=service
            ) from error
        self._wait.report(f"waiting for {service}: {text}")
        full = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failed, 16))
        self._failed += 1
        refusal = decode_status(status_of(error))
        asked = refusal.retry_after_s if refusal is not None else None
        # Half fixed and half random, so that many callers do not come back at once.
        return min(left, max(full * random.uniform(0.5, 1.0), min(asked or 0.0, MAX_PAUSE_S)))

    def answered(self) -> None:
        """Report that the wait is over, where there was one."""
        if self._failed:
            self._wait.report("")


def call_patiently(send: Callable[[float], _T], wait: Wait) -> _T:
    """The answer to a blocking call.

    Args:
        send: sends the call once; receives the seconds that are left.
        wait: how to wait.

    Raises:
        RpcError: it was refused, and waiting does not help.
        ServiceUnavailable: nobody answered in time.
    """
    tries = _Tries(wait)
    while True:
        wait.check()
        try:
            answer = send(tries.left_s)
        except grpc.RpcError as error:
            pause_s = tries.pause_s(error)
        else:
            tries.answered()
            return answer
        until = time.monotonic() + pause_s
        while (left := until - time.monotonic()) > 0:
            wait.check()
            time.sleep(min(POLL_S, left))


async def call_patiently_async(send: Callable[[float], Awaitable[_T]], wait: Wait) -> _T:
    """The answer to an asyncio call; otherwise as `call_patiently`."""
    tries = _Tries(wait)
    while True:
        wait.check()
        try:
            answer = await send(tries.left_s)
        except grpc.RpcError as error:
            pause_s = tries.pause_s(error)
        else:
            tries.answered()
            return answer
        until = time.monotonic() + pause_s
        while (left := until - time.monotonic()) > 0:
            wait.check()
            await asyncio.sleep(min(POLL_S, left))


def result_of(future: Any, check: Callable[[], None]) -> Any:
    """The answer of a call that was sent as a future; `check` can end the wait for it.

    Raises:
        RpcError: the call failed.
    """
    while True:
        try:
            return future.result(timeout=POLL_S)
        except grpc.FutureTimeoutError:
            try:
                check()
            except BaseException:
                future.cancel()
                raise
        except grpc.FutureCancelledError:  # the server ended it; the call itself is the error that says so
            raise future from None


class PatientInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Sends unary calls of a blocking channel as `call_patiently` does."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        """Send the call until it is answered."""

        def send(_left_s: float) -> Any:
            call = continuation(client_call_details, request)
            call.result()
            return call

        return call_patiently(send, self._wait)


class PatientAioInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Sends unary calls of an asyncio channel as `call_patiently_async` does."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Send the call until it is answered."""

        async def send(_left_s: float) -> Any:
            return await (await continuation(client_call_details, request))

        return await call_patiently_async(send, self._wait)
