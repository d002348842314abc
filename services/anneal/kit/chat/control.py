"""Control tokens that stand in people's texts stay text: `<|im_end|>` in a question ends no turn.

A tokenizer turns every spelling of an added token into that token. So each spelling in a text of a conversation is
replaced by one private-use character before the template sees it, and that character becomes the tokens of the plain
text afterwards. Training and serving do the same, so their token ids are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_FIRST, _LAST = 0xE000, 0xF8FF
_PRIVATE = f"[{chr(_FIRST)}-{chr(_LAST)}]"
_STEP = 64


class Guarded:
    """The texts of one conversation, made safe: which private-use character stands for which text."""

    def __init__(self, spelled: re.Pattern[str]) -> None:
        self._spelled = spelled
        self._of: dict[str, str] = {}

    def hide(self, value: Any, spelled: re.Pattern[str] | None = None) -> Any:
        """The same JSON value with every spelling of a control token in its texts replaced."""
        if isinstance(value, str):
            return (spelled or self._spelled).sub(self._hide, value)
        if isinstance(value, Mapping):
            return {self.hide(key, spelled): self.hide(item, spelled) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item, spelled) for item in value]
        return value

    def _hide(self, match: re.Match[str]) -> str:
        text = match[0]
        if text not in self._of:
            if len(self._of) > _LAST - _FIRST:
                raise ValueError("the texts spell more than 6400 different control tokens")
            self._of[text] = chr(_FIRST + len(self._of))
        return self._of[text]

    @property
    def hidden(self) -> list[str]:
        """The texts that were replaced; the one at place i became the private-use character i."""
        return list(self._of)

    def reveal(self, text: str) -> str:
        """A rendered text as people wrote it."""
        back = {character: spelled for spelled, character in self._of.items()}
        return re.sub(_PRIVATE, lambda match: back.get(match[0], match[0]), text) if back else text


class TextEncoder:
    """Turns rendered text into token ids; control tokens are those that the template wrote, and no others."""

    def __init__(self, tokenizer: Any) -> None:
        """Take a fast tokenizer of transformers."""
        self._backend = tokenizer.backend_tokenizer
        added = tokenizer.added_tokens_decoder
        self.control: Mapping[int, str] = {number: str(token.content) for number, token in added.items()}
        self.special = frozenset(number for number, token in added.items() if token.special)
        every = self.control.values()
        self._every = _pattern(every)
        self._special = _pattern(text for number, text in self.control.items() if number in self.special)
        self._with_places: tuple[Any, int] | None = None
        self._plain: Any = None
        self._spelled: dict[str, list[int]] = {}
        self._before, self._after = self._frame()

    def guard(self) -> Guarded:
        """Begin a conversation."""
        return Guarded(self._every)

    @property
    def special_only(self) -> re.Pattern[str]:
        """What is hidden in the assistant's own texts: the other added tokens are how the model writes such text."""
        return self._special

    def encode(self, text: str, guarded: Guarded | None = None) -> list[int]:
        """Token ids of a rendered text, as they are: nothing is put before or after."""
        hidden = guarded.hidden if guarded is not None else []
        if not hidden:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        backend, first = self._places(len(hidden))
        ids: list[int] = []
        for token in backend.encode(text, add_special_tokens=False).ids:
            at = token - first
            ids.extend(self._as_text(hidden[at]) if 0 <= at < len(hidden) else [token])
        return ids

    def encode_after(self, text: str, guarded: Guarded | None = None) -> list[int]:
        """Token ids of a text that follows a control token: without what tokenizers put before a text's beginning."""
        backend, first = self._places(max(1, len(guarded.hidden) if guarded is not None else 1))
        hidden = guarded.hidden if guarded is not None else []
        mark = chr(_FIRST)
        ids = list(backend.encode(mark + text, add_special_tokens=False).ids)
        out: list[int] = []
        for token in ids[ids.index(first) + 1 :]:
            at = token - first
            out.extend(self._as_text(hidden[at]) if 0 <= at < len(hidden) else [token])
        return out

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a raw text: what the tokenizer puts before a text (BOS), and the text; nothing after it."""
        guarded = self.guard()
        return [*self._before, *self.encode(guarded.hide(text), guarded)]

    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text of its own accord."""
        bare = list(self._backend.encode("a", add_special_tokens=False).ids)
        framed = list(self._backend.encode("a", add_special_tokens=True).ids)
        for start in range(len(framed) - len(bare) + 1):
            if framed[start : start + len(bare)] == bare:
                return framed[:start], framed[start + len(bare) :]
        return [], []

    def _places(self, count: int) -> tuple[Any, int]:
        """A copy of the tokenizer that knows private-use characters, and the id of the first of them."""
        if self._with_places is None or self._with_places[0].token_to_id(chr(_FIRST + count - 1)) is None:
            from tokenizers import AddedToken, Tokenizer

            rounded = -(-count // _STEP) * _STEP
            copy = Tokenizer.from_str(self._backend.to_str())
            places = [chr(_FIRST + i) for i in range(rounded)]
            copy.add_tokens([AddedToken(place, normalized=False, special=False) for place in places])
            first: Any = copy.token_to_id(chr(_FIRST))
            # A vocabulary that holds such a character itself would give it that token's id.
            if [copy.token_to_id(place) for place in places] != list(range(first, first + rounded)):
                raise ValueError("the tokenizer's vocabulary holds private-use characters")
            self._with_places = copy, int(first)
        return self._with_places

    def _as_text(self, spelled: str) -> list[int]:
        """The tokens of a control token's spelling as plain text; none of them is a control token."""
        if spelled not in self._spelled:
            encode = self._plain_encoder()
            ids = encode(spelled)
            if any(number in self.control for number in ids):
                # The vocabulary itself holds the spelling: character by character it cannot be met.
                ids = [number for character in spelled for number in encode(character)]
            self._spelled[spelled] = ids
        return self._spelled[spelled]

    def _plain_encoder(self) -> Callable[[str], list[int]]:
        if self._plain is None:
            import json

            from tokenizers import Tokenizer

            described = json.loads(self._backend.to_str())
            described["added_tokens"] = []
            described["post_processor"] = None
            self._plain = Tokenizer.from_str(json.dumps(described))
        plain = self._plain
        return lambda text: list(plain.encode(text, add_special_tokens=False).ids)


def _pattern(spellings: Any) -> re.Pattern[str]:
    """Any of the spellings, the longest first, or a private-use character, which stands for itself."""
    longest_first = sorted({text for text in spellings if text.strip()}, key=lambda text: (-len(text), text))
    return re.compile("|".join([*map(re.escape, longest_first), _PRIVATE]))
