"""The tokens of texts that spell control tokens: as plain text, in the surroundings that they stand in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from anneal.kit.chat.errors import Malformed

if TYPE_CHECKING:
    from anneal.kit.chat.control import Guarded

_MARK = "\U0010fffd"
"""Stands in the place of every hidden text, and before texts that follow others."""


class PlainEncoder:
    """Two copies of a tokenizer: one that knows the mark beside its own control tokens, one that knows only the mark.

    Where hidden texts stand is seen by the first; the texts between its control tokens are tokenized by the second.
    """

    def __init__(self, backend: Any, control: frozenset[int]) -> None:
        """Copy a tokenizer of `tokenizers`; `control` are the ids of its added tokens that are no white space."""
        from tokenizers import AddedToken, Tokenizer

        mark = AddedToken(_MARK, normalized=False, special=False)
        described = json.loads(backend.to_str())
        described.update(truncation=None, padding=None, post_processor=None)
        self._seeing = Tokenizer.from_str(json.dumps(described))
        blank = [token for token in described["added_tokens"] if not token["content"].strip()]
        described["added_tokens"] = [token for token in blank if self._in_model(described, token)]
        self._bare = Tokenizer.from_str(json.dumps(described))
        self._seeing.add_tokens([mark])
        self._plain = Tokenizer.from_str(json.dumps(described))
        self._plain.add_tokens([mark])
        self._seen_mark, self._mark = (made.token_to_id(_MARK) for made in (self._seeing, self._plain))
        self._control = control

    @staticmethod
    def _in_model(described: dict[str, Any], token: dict[str, Any]) -> bool:
        vocabulary = described["model"].get("vocab")
        return isinstance(vocabulary, dict) and vocabulary.get(token["content"]) == token["id"]

    def encode(self, text: str, guarded: Guarded, *, after: bool) -> list[int]:
        """Tokens of a rendered text in which hidden texts stand.

        Args:
            text: the rendered text.
            guarded: what was hidden in it.
            after: it follows other text.
        """
        lead = _MARK if after else ""
        marked = "".join(_MARK if guarded.holds(character) else character for character in text)
        seen = self._seeing.encode(lead + marked, add_special_tokens=False)
        ids: list[int] = []
        begin = 0
        for token, (start, end) in zip(seen.ids, seen.offsets, strict=True):
            if token != self._seen_mark and token in self._control and end > start:
                ids.extend(self._text(guarded.reveal(text[begin : start - len(lead)]), after))
                ids.append(token)
                begin, after = end - len(lead), True
        return [*ids, *self._text(guarded.reveal(text[begin:]), after)]

    def encode_after(self, text: str) -> list[int]:
        """Tokens of a text without control tokens that follows other text."""
        return self._text(text, after=True)

    def _text(self, text: str, after: bool) -> list[int]:
        if not text:
            return []
        found = list(self._plain.encode(_MARK + text if after else text, add_special_tokens=False).ids)
        if after:
            del found[: next(at for at, token in enumerate(found) if token == self._mark) + 1]
        ids: list[int] = []
        for token in found:
            if token == self._mark:  # people's own
                ids.extend(self._bare.encode(_MARK, add_special_tokens=False).ids)
            elif token in self._control:  # the vocabulary itself holds the spelling
                ids.extend(self._characters(self._plain.id_to_token(token) or ""))
            else:
                ids.append(token)
        return ids

    def _characters(self, spelled: str) -> list[int]:
        """A spelling that would be met as a whole, character by character."""
        ids: list[int] = []
        for character in spelled:
            one = self._bare.token_to_id(character)
            parts = [one] if one is not None else [self._bare.token_to_id(f"<0x{b:02X}>") for b in character.encode()]
            ids.extend(part for part in parts if part is not None)
        if not ids or any(number in self._control for number in ids):
            raise Malformed(f"the tokenizer has no tokens for {spelled!r} as text")
        return ids
