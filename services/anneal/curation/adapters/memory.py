"""Where memory comes from."""

from __future__ import annotations

import ctypes

import pyarrow as pa

# Of glibc's malloc.h: parameters of `mallopt`.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_HELD_BYTES, _HEAP_BYTES = 1 << 30, 32 << 20


def use_malloc() -> None:
    """Let Arrow use the allocator of the C library in this process, and that keep what comes and goes.

    Pieces come and go many times a second on several threads. Arrow's own default, mimalloc, gives their memory back to
    the system and takes it anew each time: on two cores that cost a third of the time of exact deduplication. So would
    glibc with what is large, unless it is told otherwise; other libraries are left as they are.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _HEAP_BYTES)
        mallopt(_TRIM_THRESHOLD, _HELD_BYTES)
