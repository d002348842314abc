"""Pages of lists (AIP-158): sizes with limits, opaque tokens that only fit the list they came from."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anneal.kit.digests import digest_of
from anneal.kit.errors import Invalid

DEFAULT_SIZE = 50
MAX_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """What a list request asks for.

    Attributes:
        size: most results wanted, 1 to `MAX_SIZE`.
        after: the cursor to go on after; None at the beginning.
        scope: digest of the list's other arguments.
    """

    size: int
    after: Any
    scope: str

    def token(self, cursor: Any) -> str:
        """The token of the page that starts after `cursor`, a JSON value."""
        text = json.dumps([self.scope, cursor], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def page(page_size: int, page_token: str, arguments: Mapping[str, Any] | None = None) -> Page:
    """Read the paging fields of a request.

    Args:
        page_size: 0 means 50; more than 1000 means 1000.
        page_token: empty at the beginning.
        arguments: every other argument of the list, as JSON values.

    Raises:
        Invalid: a negative size, or a token that this list did not give.
    """
    if page_size < 0:
        raise Invalid.field("page_size", f"{page_size} is negative")
    size = min(page_size or DEFAULT_SIZE, MAX_SIZE)
    scope = digest_of(dict(arguments or {}))[7:23]
    if not page_token:
        return Page(size, None, scope)
    try:
        padded = page_token + "=" * (-len(page_token) % 4)
        found, cursor = json.loads(base64.urlsafe_b64decode(padded.encode()))
    except (ValueError, TypeError, binascii.Error, UnicodeError):
        raise Invalid.field("page_token", "this token was not given by this list") from None
    if found != scope:
        raise Invalid.field("page_token", "this token belongs to a list with other arguments")
    return Page(size, cursor, scope)
