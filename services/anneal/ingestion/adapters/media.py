"""Signs that a row is about pictures, films or sounds, which rows cannot hold: such a row is quarantined by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow

COLUMNS = ("image", "images", "video", "videos", "audio", "audios")
# Tokens that only models of pictures, films or sounds know.
_TOKENS = re.compile(
    r"<\|(?:image|video|audio|vision_start|vision_bos|audio_bos|image_pad|video_pad|audio_pad)(?:_\d+)?\|>"
    r"|<(?:image|video|audio)_placeholder>|<ImageHere>",
)
# A placeholder that stands by itself: at the begin or the end of a text, or alone in its line.
_ALONE = re.compile(r"\A\s*<(image|video|audio)>|<(image|video|audio)>\s*\Z|^\s*<(image|video|audio)>\s*$", re.M)


def check_columns(row: Mapping[str, Any]) -> None:
    """Check that no column of a row holds a picture, a film or a sound.

    Raises:
        BadRow: one does.
    """
    for column in COLUMNS:
        if row.get(column):
            raise BadRow("unsupported_content", f"the row has {column}, which no row of text can hold")


def check_text(text: str | None, role: str, number: int) -> None:
    """Check that what a user says is not about something that was beside it.

    Raises:
        BadRow: it holds a placeholder of a picture, a film or a sound.
    """
    if role != "user" or not text or "<" not in text:
        return
    found = _TOKENS.search(text) or _ALONE.search(text)
    if found:
        cause = f"message {number} holds the placeholder {found[0].strip()[:40]!r} of something that is not text"
        raise BadRow("unsupported_content", cause)
