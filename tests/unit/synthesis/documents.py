"""Hand-made documents in the agreed form."""

from __future__ import annotations

import json
from typing import Any


def entry(type_: str, signature: str, body: str, *, params: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    name = signature.partition("(")[0].rpartition(" ")[2]
    return {"type": type_, "name": name, "signature": signature, "body": body, "params": list(params), **more}


def document(*entries: dict[str, Any], uri: str = "library/demo.html", intro: str = "Some module.") -> dict[str, Any]:
    """A page with one section whose entries stand one after the other."""
    text = f"# demo\n\n{intro}"
    spans = []
    for item in entries:
        start = len(text) + 2
        text += f"\n\n{item['signature']}\n\n{item['body']}"
        spans.append(
            {
                "type": item["type"],
                "name": item["name"],
                "domain": item.get("domain", "py"),
                "start": start,
                "body_start": start + len(item["signature"]) + 2,
                "end": len(text),
                "signature": item["signature"],
                "params": item["params"],
            }
        )
    meta = {"sections": [{"level": 1, "title": "demo", "start": 0, "end": len(text)}], "spans": spans}
    return row(text, meta, uri=uri)


def row(text: str, meta: dict[str, Any], *, uri: str = "library/demo.html", **columns: Any) -> dict[str, Any]:
    return {
        "id": f"id-of-{uri}",
        "text": text,
        "title": "demo",
        "uri": uri,
        "source": uri,
        "media_type": "text/html",
        "language": "en",
        "license": "",
        "meta": json.dumps(meta),
        **columns,
    }


COPY = entry(
    "function",
    "demo.copy(src, dst, *, follow=True)",
    "Copy src to dst, e.g. a file. The destination must be writable.\n\nRaises an error otherwise.",
    params=("src", "dst", "follow"),
)
POINT = entry("class", "class demo.Point(x, y)", "A point in the plane. It never moves.", params=("x", "y"))
BROKEN = entry("exception", "exception demo.Broken", "Raised when a thing is broken. Mend it.")
LIMIT = entry("data", "demo.LIMIT", "The highest number of things. It is large.")
