"""Channels to other services: a deadline on every call, a token where one is set, retries where the server is away."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc

from anneal.kit.options import TlsOptions
from anneal.kit.rpc.tls import channel_credentials

DEFAULT_DEADLINE_S = 60.0
STREAM_DEADLINE_S = 86_400.0
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class _Details(NamedTuple):
    """Call details with what this module changes."""

    method: Any
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any = None


def _completed(details: Any, token: str, default_s: float, *, aio: bool) -> Any:
    metadata = list(details.metadata or ())
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    timeout = default_s if details.timeout is None else details.timeout
    if aio:
        return grpc.aio.ClientCallDetails(
            details.method, timeout, grpc.aio.Metadata(*metadata), details.credentials, details.wait_for_ready
        )
    return _Details(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


class _AioStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    """Completes calls with a stream of requests."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        details = _completed(client_call_details, self._token, STREAM_DEADLINE_S, aio=True)
        return await continuation(details, request_iterator)


class _AioUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    """Completes calls with one request and one answer."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_completed(client_call_details, self._token, DEFAULT_DEADLINE_S, aio=True), request)


class _AioUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    """Completes calls with a stream of answers."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_completed(client_call_details, self._token, STREAM_DEADLINE_S, aio=True), request)


class _Sync(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """The same for the blocking API."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(_completed(client_call_details, self._token, DEFAULT_DEADLINE_S, aio=False), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(_completed(client_call_details, self._token, STREAM_DEADLINE_S, aio=False), request)

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        details = _completed(client_call_details, self._token, STREAM_DEADLINE_S, aio=False)
        return continuation(details, request_iterator)


def open_channel(address: str, token: str = "", tls: TlsOptions | None = None, server_name: str = "") -> grpc.Channel:
    """A blocking channel to `host:port`.

    Args:
        address: `host:port`.
        token: bearer token of every call; empty sends none.
        tls: how to connect; None connects without TLS.
        server_name: name that the server's certificate must have; empty for the host of `address`, which is another
            one behind a port-forward.

    Raises:
        Misconfigured: a file of `tls` cannot be read.
    """
    credentials = channel_credentials(tls or TlsOptions())
    options = [*OPTIONS, ("grpc.ssl_target_name_override", server_name)] if server_name else OPTIONS
    channel = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, OPTIONS)
    )
    return grpc.intercept_channel(channel, _Sync(token))


def open_aio_channel(
    address: str, token: str = "", tls: TlsOptions | None = None, *, outer: Sequence[grpc.aio.ClientInterceptor] = ()
) -> grpc.aio.Channel:
    """An asyncio channel to `host:port`; `outer` are interceptors that see each call before this module's.

    Raises:
        Misconfigured: a file of `tls` cannot be read.
    """
    interceptors = [*outer, _AioUnaryUnary(token), _AioStreamUnary(token), _AioUnaryStream(token)]
    credentials = channel_credentials(tls or TlsOptions())
    if credentials is None:
        return grpc.aio.insecure_channel(address, OPTIONS, interceptors=interceptors)
    return grpc.aio.secure_channel(address, credentials, OPTIONS, interceptors=interceptors)


def address_of(addresses: Mapping[str, str], service: str, part: str = "") -> str:
    """`host:port` of a service.

    Args:
        addresses: `service -> host:port`, or `service/part -> host:port` where a part has servers of its own.
        service: such as `serving`.
        part: such as the resource name of a base model; where it has no address of its own, the service's is taken.

    Raises:
        KeyError: none is configured.
    """
    found = addresses.get(f"{service}/{part}") or addresses.get(service)
    if found is None:
        raise KeyError(f"no address is configured for the service {service!r} (ANNEAL_ADDRESSES)")
    return found


class Channels:
    """One asyncio channel per address, opened on first use."""

    def __init__(self, addresses: Mapping[str, str], token: str = "", tls: TlsOptions | None = None) -> None:
        self.addresses = dict(addresses)
        self._token, self._tls = token, tls
        self._open: dict[str, grpc.aio.Channel] = {}

    def get(self, service: str, part: str = "") -> grpc.aio.Channel:
        """The channel to a service, or to that of one part of it: see `address_of`.

        Raises:
            KeyError: no address is configured for it.
            Misconfigured: a file of the TLS options cannot be read.
        """
        address = address_of(self.addresses, service, part)
        if address not in self._open:
            self._open[address] = open_aio_channel(address, self._token, self._tls)
        return self._open[address]

    async def close(self) -> None:
        """Close them all."""
        for channel in self._open.values():
            await channel.close()
        self._open.clear()
