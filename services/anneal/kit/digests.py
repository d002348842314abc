"""Content digests: the identity of everything that is stored."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from pathlib import Path
from typing import Any

from anneal.kit.errors import Invalid

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


def sha256_hex(data: bytes | memoryview | mmap.mmap) -> str:
    """SHA-256 of bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of_bytes(data: bytes | memoryview | mmap.mmap) -> str:
    """`sha256:<hex>` of bytes."""
    return "sha256:" + sha256_hex(data)


def digest_of_file(path: Path) -> str:
    """`sha256:<hex>` of a file, read in blocks of 1 MiB."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return "sha256:" + state.hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no white space, in UTF-8: equal values give equal bytes.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # A lone surrogate has no UTF-8; it is kept apart from every real character by its escape.
    return text.encode("utf-8", errors="backslashreplace")


def digest_of(value: Any) -> str:
    """`sha256:<hex>` of a value's canonical JSON."""
    return digest_of_bytes(canonical_json(value))


def hex_of(digest: str, field: str = "digest") -> str:
    """The 64 hex digits of a digest.

    Raises:
        Invalid: `digest` is not `sha256:` and 64 lower-case hex digits.
    """
    if not _DIGEST.fullmatch(digest):
        raise Invalid.field(field, f"{digest!r} is not `sha256:` followed by 64 lower-case hex digits")
    return digest[7:]


def version_id(digest: str) -> str:
    """The id of a version: the first 12 hex digits of its digest."""
    return hex_of(digest)[:12]
