"""An order of rows by chance that depends on their ids and a seed alone."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa


def chance_of(ids: pa.Array, seed: str) -> pa.Array:
    """A number for each row, uint64: a keyed digest of its id."""
    key = seed.encode()[:64]
    raw = b"".join(blake2b((row or "").encode(), key=key, digest_size=8).digest() for row in ids.to_pylist())
    return pa.array(np.frombuffer(raw, dtype="<u8").astype(np.uint64))
