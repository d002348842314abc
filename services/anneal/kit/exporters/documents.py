"""Documents as records."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anneal.kit.exporters.base import LeftOut, Losses, Record, Row, with_meta


def document(text: str, link: str) -> Callable[[Row, Losses], Sequence[Record]]:
    """Writes documents into columns.

    Args:
        text: column of the text.
        link: column of its place of origin.
    """

    def write(row: Row, losses: Losses) -> Sequence[Record]:
        if not row["text"].strip():
            raise LeftOut("documents without text")
        record: Record = {text: row["text"], link: row["uri"]}
        record |= {name: row[name] for name in ("title", "language", "license") if row.get(name)}
        losses.fields["media_type"] += row.get("media_type") not in (None, "", "text/plain")
        losses.fields["source"] += row.get("source") != row["uri"]
        return [with_meta(record, row, losses)]

    return write
