"""Clients that may go away at any time: while they send, and while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from anneal.gateway.domain.errors import BodyTooLarge

_Answer = TypeVar("_Answer")


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


async def all_of(calls: Sequence[Coroutine[Any, Any, _Answer]]) -> list[_Answer]:
    """The results of all calls; when one fails, the others end as well."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def until_gone(request: Request, work: Awaitable[_Answer]) -> _Answer:
    """The result of the work, which is cancelled when the client goes away before.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        ClientGone: the client went away before it was whole.
        BodyTooLarge: it is longer than `max_bytes`.
    """
    read = bytearray()
    try:
        async for piece in request.stream():
            read += piece
            if len(read) > max_bytes:
                raise BodyTooLarge(f"the request is longer than {max_bytes} bytes")
    except ClientDisconnect:
        raise ClientGone from None
    return bytes(read)
