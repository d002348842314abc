"""The one server interceptor: credentials, checks, errors, metrics and one log line for every RPC."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

import grpc
from google.api import field_behavior_pb2
from google.protobuf import unknown_fields
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_status import rpc_status
from sqlalchemy.exc import TimeoutError as PoolTimeout

from anneal.kit import logs
from anneal.kit.disk import full_disk
from anneal.kit.errors import Invalid, Refusal, TooLate, Unauthenticated
from anneal.kit.metrics import Metrics, RpcRecord
from anneal.kit.rpc.slots import Slots
from anneal.kit.rpc.status import encode_refusal, internal_status, passed_on
from anneal.kit.sql_faults import DatabaseBusy

_OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
_OWN_SERVICES = ("anneal.v1.JobHostService",)
"""The processes of our own jobs: few, short, and a job whose heartbeat is refused is lost."""
_WAITING = (("anneal.v1.JobService", "WatchJob"), ("google.longrunning.Operations", "WaitOperation"))
"""Methods that wait for hours and work for milliseconds; they are bounded apart from those that work."""


def check_message(message: Message) -> None:
    """Check what the contract says of every request: no unknown fields or types, and REQUIRED fields are there.

    An update names in its mask what it changes; the resource in it may leave out the rest (AIP-203).

    Raises:
        Invalid: with every violation named.
    """
    violations: list[tuple[str, str]] = []
    _collect(message, "", violations, is_partial="update_mask" in message.DESCRIPTOR.fields_by_name)
    if violations:
        text = "; ".join(f"{path}: {what}" for path, what in violations)
        raise Invalid(text, violations=violations)


def _collect(message: Message, path: str, violations: list[tuple[str, str]], *, is_partial: bool) -> None:
    mistyped = set()
    fields: Any = unknown_fields.UnknownFieldSet(message)
    for unknown in fields:
        # protobuf keeps a field that came with another wire type than its own among those it does not know.
        field = message.DESCRIPTOR.fields_by_number.get(unknown.field_number)
        if field is None:
            violations.append((f"{path}#{unknown.field_number}", f"{message.DESCRIPTOR.name} has no such field"))
        elif field.name not in mistyped:
            mistyped.add(field.name)
            violations.append((path + field.name, "has the wrong type"))
    for field in message.DESCRIPTOR.fields:
        if field.name in mistyped:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        value = getattr(message, field.name)
        here = path + field.name
        is_required = field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if is_required and not (is_partial and path.count(".") == 1):
            present = message.HasField(field.name) if field.has_presence else bool(value) or _zero_is_a_value(field)
            if not present:
                violations.append((here, "is required"))
                continue
        if field.message_type is None or field.message_type.full_name.startswith("google."):
            continue
        if field.is_repeated:
            for index, item in enumerate(value):
                _collect(item, f"{here}[{index}].", violations, is_partial=is_partial)
        elif message.HasField(field.name):
            _collect(value, f"{here}.", violations, is_partial=is_partial)


def _zero_is_a_value(field: Any) -> bool:
    """Numbers and booleans without presence: zero may be meant; the domain decides. Enums and lists may not be zero."""
    return not field.is_repeated and field.cpp_type not in (
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_ENUM,
        FieldDescriptor.CPPTYPE_MESSAGE,
    )


class _Undecodable:
    """Stands for a request whose bytes are no message of its type, until it is refused like any other."""


def _decode_later(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer that never raises: grpc would answer UNKNOWN before anything here could count or explain it."""

    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return _Undecodable()

    return decoded


def _check(request: Any) -> Any:
    if isinstance(request, _Undecodable):
        raise Invalid("the request is cut off, or a text in it is not UTF-8: it is no message of this method")
    check_message(request)
    return request


class KitInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every RPC. Servicers behind it catch nothing."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        tokens: Sequence[str] = (),
        max_concurrent: int = 256,
        max_waiting: int = 1024,
        max_seconds: float = 3600,
    ) -> None:
        """Make the interceptor.

        Args:
            metrics: where RPCs are counted.
            tokens: bearer tokens that are accepted; empty accepts everybody.
            max_concurrent: RPCs handled at once, without those of the server's own jobs; one more is refused as busy.
            max_waiting: RPCs at once that only wait for a job; one more is refused as busy.
            max_seconds: a unary RPC without a deadline of its own gets this one.
        """
        self._metrics = metrics
        self._tokens = tuple(tokens)
        self._working = Slots(max_concurrent, "requests")
        self._waiting = Slots(max_waiting, "watchers of jobs")
        self._max_seconds = max_seconds
        self._log = logs.logger("rpc")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Replace the handler by one that runs inside `_guarded`."""
        handler = await continuation(handler_call_details)
        details: Any = handler_call_details
        _, service, method = str(details.method).split("/", 2)
        if handler is None or service.startswith("grpc."):
            return handler
        refused = self._credential_problem(service, details.invocation_metadata)
        kind = {
            (False, False): ("unary", "unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("server_stream", "unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("client_stream", "stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("bidi_stream", "stream_stream", grpc.stream_stream_rpc_method_handler),
        }[(handler.request_streaming, handler.response_streaming)]
        rpc_type, attribute, make = kind
        inner = getattr(handler, attribute)
        guard = _Guard(
            self._metrics,
            self._slots_of(service, method),
            self._log,
            (rpc_type, service, method),
            refused,
            self._max_seconds,
        )
        wrap = guard.streaming if handler.response_streaming else guard.unary
        return make(
            wrap(inner, handler.request_streaming),
            request_deserializer=_decode_later(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _slots_of(self, service: str, method: str) -> Slots | None:
        if service in _OWN_SERVICES:
            return None
        return self._waiting if (service, method) in _WAITING else self._working

    def _credential_problem(self, service: str, metadata: Any) -> Refusal | None:
        if not self._tokens or service in _OPEN_SERVICES:
            return None
        given = next((str(value) for key, value in metadata or () if key == "authorization"), "")
        token = given.removeprefix("Bearer ").strip().encode()
        if token and any(hmac.compare_digest(token, known.encode()) for known in self._tokens):
            return None
        return Unauthenticated("this server wants `authorization: Bearer <token>`, and this token is not one it knows")


class _Guard:
    """Runs one RPC's handler with counting, limits and errors turned into statuses."""

    def __init__(
        self,
        metrics: Metrics,
        slots: Slots | None,
        log: Any,
        labels: tuple[str, str, str],
        refused: Refusal | None,
        max_seconds: float,
    ) -> None:
        self._metrics, self._slots, self._log = metrics, slots, log
        self._labels, self._refused, self._max_seconds = labels, refused, max_seconds

    def unary(self, inner: Any, request_streaming: bool) -> Any:
        async def run(request: Any, context: Any) -> Any:
            with self._metrics.rpc(*self._labels) as record:
                return await self._settle(
                    record, context, self._answer(inner, request, request_streaming, context, record)
                )

        return run

    async def _answer(self, inner: Any, request: Any, streaming: bool, context: Any, record: RpcRecord) -> Any:
        with self._slot():
            left = context.time_remaining()
            async with asyncio.timeout(None if left is not None else self._max_seconds):
                answer = await inner(self._checked(request, streaming, record), context)
        record.sent()
        return answer

    def streaming(self, inner: Any, request_streaming: bool) -> Any:
        async def run(request: Any, context: Any) -> None:
            async def produce() -> None:
                with self._slot():
                    answers = inner(self._checked(request, request_streaming, record), context)
                    # Closed at once when the client goes away between two messages: what makes them ends then.
                    async with aclosing(answers):
                        async for message in answers:
                            record.sent()
                            await context.write(message)

            with self._metrics.rpc(*self._labels) as record:
                await self._settle(record, context, produce())

        return run

    def _slot(self) -> AbstractContextManager[None]:
        if self._refused is not None:
            raise self._refused
        return nullcontext() if self._slots is None else self._slots.taken()

    def _checked(self, request: Any, streaming: bool, record: RpcRecord) -> Any:
        if not streaming:
            record.received()
            return _check(request)
        return self._checked_stream(request, record)

    async def _checked_stream(self, requests: AsyncIterator[Any], record: RpcRecord) -> AsyncIterator[Any]:
        async for request in requests:
            record.received()
            yield _check(request)

    async def _settle(self, record: RpcRecord, context: Any, work: Any) -> Any:
        """Await the work; turn what goes wrong into a status."""
        start = time.perf_counter()
        status: status_pb2.Status
        try:
            answer = await work
        except asyncio.CancelledError:
            record.code = "CANCELLED"
            self._line(record, start)
            raise
        except grpc.aio.AbortError:
            record.code = context.code().name if context.code() else "UNKNOWN"
            raise
        except Refusal as refusal:
            status = encode_refusal(refusal)
        except grpc.aio.AioRpcError as error:
            status = self._passed_on(error)
        except TimeoutError:
            status = encode_refusal(TooLate("it took too long"))
        except Exception as error:  # noqa: BLE001 - the one place where a bug becomes INTERNAL
            status = self._unexpected(error)
        else:
            self._line(record, start)
            return answer
        record.code = next(code.name for code in grpc.StatusCode if code.value[0] == status.code)
        self._line(record, start, message=status.message)
        await context.abort_with_status(rpc_status.to_status(status))

    def _unexpected(self, error: Exception) -> status_pb2.Status:
        if (full := full_disk(error)) is not None:
            self._log.error("disk full", service=self._labels[1], method=self._labels[2], text=str(full))
            return encode_refusal(full)
        if isinstance(error, PoolTimeout):
            return encode_refusal(DatabaseBusy("every connection of this server to its database is in use"))
        self._log.exception("bug", service=self._labels[1], method=self._labels[2])
        return internal_status("this is a bug of the server; its log has the trace")

    def _passed_on(self, error: grpc.aio.AioRpcError) -> status_pb2.Status:
        """See `passed_on`."""
        passed = passed_on(error)
        if passed.code == grpc.StatusCode.INTERNAL.value[0]:
            self._log.error("bug", downstream=error.code().name, text=error.details())
        return passed

    def _line(self, record: RpcRecord, start: float, **more: str) -> None:
        level = self._log.info if record.code not in ("INTERNAL", "UNKNOWN") else self._log.error
        ms = round((time.perf_counter() - start) * 1000, 1)
        level("rpc", service=self._labels[1], method=self._labels[2], code=record.code, ms=ms, **more)
