"""Control tokens that stand in people's texts stay text: `<|im_end|>` in a question ends no turn.

A tokenizer turns every spelling of an added token into that token. So each spelling in a text of a conversation is
replaced by one private-use character before the template sees it, and what stands there becomes the tokens of the
plain text afterwards. Training and serving do the same, so their token ids are equal.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from anneal.kit.chat.errors import Malformed
from anneal.kit.chat.plain import PlainEncoder

_FIRST, _LAST = 0x100000, 0x10FFFD
_PRIVATE = f"[{chr(_FIRST)}-{chr(_LAST)}]"
_PLACE = re.compile(_PRIVATE)


class Guarded:
    """The texts of one conversation, made safe: which private-use character stands for which text.

    It also remembers the tokens of each piece of text, since the prompts of a conversation's turns share most of them.
    """

    def __init__(self, spelled: re.Pattern[str]) -> None:
        self._spelled = spelled
        self._of: dict[str, str] = {}
        self._back: dict[str, str] = {}
        self.known: dict[tuple[str, bool], list[int]] = {}

    def hide(self, value: Any, spelled: re.Pattern[str] | None = None) -> Any:
        """The same JSON value with every spelling of a control token in its texts replaced.

        Raises:
            Malformed: there are more different ones than characters to stand for them.
        """
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
                raise Malformed("its texts spell too many different control tokens and private-use characters")
            place = chr(_FIRST + len(self._of))
            self._of[text], self._back[place] = place, text
        return self._of[text]

    def holds(self, text: str) -> bool:
        """Whether something stands in a rendered text for what people wrote."""
        return bool(self._back) and _PLACE.search(text) is not None

    def reveal(self, text: str) -> str:
        """A rendered text as people wrote it."""
        return _PLACE.sub(lambda match: self._back.get(match[0], match[0]), text) if self._back else text

    def unescape(self, text: str) -> str:
        """A rendered text in which a template has written stand-ins as JSON's escapes, with the stand-ins again."""
        if self._back and "\\udb" in text:
            for place in self._back:
                text = text.replace(json.dumps(place)[1:-1], place)
        return text


class TextEncoder:
    """Turns rendered text into token ids; control tokens are those that the template wrote, and no others.

    Control tokens that swallow no white space cut a text into pieces whose tokens do not depend on each other: this is
    how tokenizers work, and each piece of a conversation is tokenized once.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Take a fast tokenizer of transformers."""
        self._backend = tokenizer.backend_tokenizer
        added = tokenizer.added_tokens_decoder
        self.control: Mapping[int, str] = {number: str(token.content) for number, token in added.items()}
        self.special = frozenset(number for number, token in added.items() if token.special)
        self._spellings = spellings(self.control.values())
        self._every = pattern_of([*self._spellings], private=True)
        self._written = pattern_of([*self._spellings], private=False)
        self._edges = {
            str(token.content): number
            for number, token in added.items()
            if not (token.lstrip or token.rstrip or token.single_word or token.normalized)
            and self._backend.token_to_id(str(token.content)) == number
        }
        self._anchor = next((text for text in self._edges if text.strip()), None)
        self._plain: PlainEncoder | None = None

    def guard(self) -> Guarded:
        """Begin a conversation."""
        return Guarded(self._every)

    def only(self, ids: Iterable[int], texts: Iterable[str] = ()) -> re.Pattern[str]:
        """What is hidden of these control tokens and texts alone."""
        return pattern_of(spellings([*(self.control[i] for i in ids if i in self.control), *texts]), private=True)

    def encode(self, text: str, guarded: Guarded | None = None) -> list[int]:
        """Token ids of a rendered text, as they are: nothing is put before or after."""
        return self._encode(text, guarded or self.guard(), after=False)

    def encode_after(self, text: str, guarded: Guarded | None = None) -> list[int]:
        """Token ids of a text that follows other text: without what tokenizers put before a text's beginning."""
        return self._encode(text, guarded or self.guard(), after=True)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a raw text: what the tokenizer puts before a text (BOS), and the text; nothing after it."""
        guarded = self.guard()
        return [*self._before(), *self.encode(guarded.hide(text), guarded)]

    def swallows(self, text: str) -> bool:
        """Whether the last control token of a text takes white space that may follow it."""
        bare = text.rstrip()
        last = next((spelled for spelled in self._spellings if bare.endswith(spelled)), None)
        return last is not None and last not in self._edges

    def _encode(self, text: str, guarded: Guarded, *, after: bool) -> list[int]:
        ids: list[int] = []
        begin = 0
        for match in self._written.finditer(text) if self._spellings else ():
            edge = self._edges.get(match[0])
            if edge is None:
                continue
            if match.start() > begin:
                ids.extend(self._encode_segment(text[begin : match.start()], guarded, after))
            ids.append(edge)
            begin, after = match.end(), True
        if begin < len(text):
            ids.extend(self._encode_segment(text[begin:], guarded, after))
        return ids

    def _encode_segment(self, text: str, guarded: Guarded, after: bool) -> list[int]:
        """Tokens of a text between two control tokens."""
        found = guarded.known.get((text, after))
        if found is None:
            if guarded.holds(text):
                found = self._as_text().encode(text, guarded, after=after)
            elif after and self._anchor is None:
                found = self._as_text().encode_after(text)
            else:
                found = self._raw(self._anchor + text)[1:] if after and self._anchor else self._raw(text)
            guarded.known[text, after] = found
        return found

    def _raw(self, text: str, *, framed: bool = False) -> list[int]:
        backend = self._backend
        if backend.truncation is not None or backend.padding is not None:
            # Left behind by whoever used the tokenizer before, or stored with it: it would cut a prompt in silence.
            backend.no_truncation()
            backend.no_padding()
        return list(backend.encode(text, add_special_tokens=framed).ids)

    def _before(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord."""
        bare, framed = self._raw("a"), self._raw("a", framed=True)
        for start in range(len(framed) - len(bare) + 1):
            if framed[start : start + len(bare)] == bare:
                return framed[:start]
        return []

    def _as_text(self) -> PlainEncoder:
        if self._plain is None:
            self._plain = PlainEncoder(self._backend, frozenset(i for i, s in self.control.items() if s.strip()))
        return self._plain


_ENCODERS: weakref.WeakKeyDictionary[Any, tuple[Any, int, TextEncoder]] = weakref.WeakKeyDictionary()


def encoder_of(tokenizer: Any) -> TextEncoder:
    """The encoder of a tokenizer: one for all of its templates, since it may hold copies of a large vocabulary."""
    backend, count = tokenizer.backend_tokenizer, len(tokenizer.added_tokens_decoder)
    known = _ENCODERS.get(tokenizer)
    if known is None or known[0] is not backend or known[1] != count:
        known = backend, count, TextEncoder(tokenizer)
        _ENCODERS[tokenizer] = known
    return known[2]


def spellings(texts: Iterable[str]) -> list[str]:
    """The texts that are no white space, the longest first."""
    return sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text))


def pattern_of(longest_first: list[str], *, private: bool) -> re.Pattern[str]:
    """Any of the texts; with `private` also a private-use character, which then stands for itself."""
    return re.compile("|".join([*map(re.escape, longest_first), *([_PRIVATE] if private else [])]) or r"(?!)")
