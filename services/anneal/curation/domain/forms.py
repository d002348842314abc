"""The form of a text: code, JSON, a list, or plain prose. Told from its look alone, so a guess, and a fast one."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MIN_LINES = 3
MIN_SHARE = 0.4
"""A text has a form where this share of its lines that are not empty, and no fewer than `MIN_LINES`, look like it."""
MAX_JSON_CHARACTERS = 1_000_000

# Patterns begin with the line feed before a line: Arrow counts on behind each match, where `^` would match again.
_LINE = r"\n[^\S\n]*\S"
_ITEM = r"\n[^\S\n]*(?:[-*+\x{2022}]|\(?\d{1,3}[.)])[^\S\n]+\S"
_CODE = (
    r"(?m)\n[^\S\n]*(?:"
    r"(?:async def|def|class|for|while|if|elif|else|with|try|except|match|case)\b[^\n]*:$"
    r"|(?:import \w|from [\w.]+ import|return\b|raise \w|#include\b|@\w+|>>> |\$ \w)"
    r"|[A-Za-z_][\w.\[\]]*(?:\([^\n]*\)| [-+*/|&]?= [^\n]*)$"
    r"|[^\n]*[;{}]$)"
)
_FENCE = r"\n[^\S\n]*```"


def forms_of(texts: pa.Array) -> Counter[str]:
    """How many texts of a `large_string` array have which form: `empty`, `json`, `code`, `list` or `plain`."""
    shown = pc.binary_join_element_wise(pa.scalar("\n", pa.large_string()), texts, pa.scalar("", pa.large_string()))
    lines = _count(shown, _LINE)
    forms = np.full(len(texts), "plain", dtype=object)
    forms[_many(_count(shown, _ITEM), lines)] = "list"
    forms[_many(_count(shown, _CODE), lines) | (_count(shown, _FENCE) >= 2)] = "code"
    shaped = pc.match_substring_regex(texts, r"^\s*(?:\{[\s\S]*\}|\[[\s\S]*\])\s*$").to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(shaped).tolist():
        if _is_json(texts[row].as_py()):
            forms[row] = "json"
    forms[lines == 0] = "empty"
    return Counter(forms.tolist())


def _count(texts: pa.Array, pattern: str) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = pc.count_substring_regex(texts, pattern).to_numpy(zero_copy_only=False).astype(np.int64)
    return counts


def _many(found: NDArray[np.int64], lines: NDArray[np.int64]) -> NDArray[np.bool_]:
    enough: NDArray[np.bool_] = (found >= MIN_LINES) & (found >= MIN_SHARE * lines)
    return enough


def _is_json(text: str) -> bool:
    if len(text) > MAX_JSON_CHARACTERS:
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
