"""Full disks: told from other failures, in words for whoever can make room."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from anneal.kit.errors import NotYet

NO_ROOM_BYTES = 1 << 20
"""With less than this left, no attempt could write even its notes, whatever a library says that it failed of."""


class Room(NamedTuple):
    """How large a disk is, and what is left of it, in bytes."""

    size: int
    free: int


class DiskFull(NotYet):
    """There is no room left; trying again helps nobody before somebody makes some."""

    reason = "DISK_FULL"


def room_of(path: Path) -> Room:
    """The disk of a path, or of the nearest folder above it that exists.

    Raises:
        OSError: it cannot be asked.
    """
    used = shutil.disk_usage(next(folder for folder in (path, *path.absolute().parents) if folder.exists()))
    return Room(used.total, used.free)


def full_disk(error: BaseException, folder: Path | None = None) -> DiskFull | None:
    """The refusal for a failure that a full disk has caused; None for every other failure.

    Args:
        error: what failed; what caused it is looked at, too.
        folder: where the failed work writes; None where nobody knows, and then only the error itself can tell.
    """
    named = next((cause for cause in _causes(error) if _is_full(cause)), None)
    if named is None and (folder is None or room_of(folder).free >= NO_ROOM_BYTES):
        return None
    where = Path(named.filename) if isinstance(named, OSError) and isinstance(named.filename, str) else folder
    if where is None:
        return DiskFull("a disk of this server is full: make room there, then send the request again")
    free = room_of(where).free
    return DiskFull(
        f"the disk that holds {where} is full ({free >> 20} MiB are free): make room there, then send the order again",
        path=str(where),
        free_bytes=str(free),
    )


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and the members of groups."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left.extend(cause for cause in (one.__cause__, one.__context__) if cause is not None)
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions)
