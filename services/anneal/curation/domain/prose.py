"""What a text says in words: rules about language do not hold for code."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

# A fence that is never closed holds the rest of the text.
_FENCED = r"(?ms)^[ \t]*```.*?(?:^[ \t]*```[ \t]*$|\z)"


def prose_of(texts: pa.Array) -> pa.Array:
    """Texts of a `large_string` array without their fenced code (CommonMark 0.31, section 4.5; backticks only)."""
    if not pc.any(pc.match_substring(texts, "```"), min_count=0).as_py():
        return texts
    return pc.replace_substring_regex(texts, _FENCED, "")
