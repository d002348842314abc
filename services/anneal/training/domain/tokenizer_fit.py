"""Holds texts against a tokenizer: what it does not know, how many tokens it needs a character, by script.

A tokenizer that hardly met a language falls back to bytes: a Chinese character becomes three tokens, rows are cut at a
third of their length, and a model that was never shown those sequences is asked to learn them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

MAX_UNKNOWN = 0.01
"""Share of unknown tokens above which the plan warns."""
MAX_TOKENS_PER_CHARACTER = 1.5
"""Tokens a character above which the plan warns: bytes, not words."""
MAX_ROWS = 2000
"""Rows that are looked at; more change no figure that a person would act on."""

_BLOCKS = (
    (0x0041, "latin"),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, "armenian"),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0700, "other"),
    (0x0900, "devanagari"),
    (0x0980, "bengali"),
    (0x0A00, "gurmukhi"),
    (0x0A80, "gujarati"),
    (0x0B00, "other"),
    (0x0B80, "tamil"),
    (0x0C00, "telugu"),
    (0x0C80, "kannada"),
    (0x0D00, "malayalam"),
    (0x0D80, "sinhala"),
    (0x0E00, "thai"),
    (0x0E80, "lao"),
    (0x0F00, "tibetan"),
    (0x1000, "myanmar"),
    (0x10A0, "georgian"),
    (0x1100, "hangul"),
    (0x1200, "ethiopic"),
    (0x13A0, "other"),
    (0x1780, "khmer"),
    (0x1800, "other"),
    (0x1C90, "georgian"),
    (0x1CC0, "other"),
    (0x1E00, "latin"),
    (0x1F00, "greek"),
    (0x2000, "other"),
    (0x2E80, "han"),
    (0x3041, "kana"),
    (0x3100, "other"),
    (0x3130, "hangul"),
    (0x3190, "other"),
    (0x31F0, "kana"),
    (0x3200, "other"),
    (0x3400, "han"),
    (0xA000, "other"),
    (0xA960, "hangul"),
    (0xA980, "other"),
    (0xAC00, "hangul"),
    (0xD7B0, "other"),
    (0xF900, "han"),
    (0xFB00, "latin"),
    (0xFB13, "other"),
    (0xFB1D, "hebrew"),
    (0xFB50, "arabic"),
    (0xFE00, "other"),
    (0xFE70, "arabic"),
    (0xFF00, "latin"),
    (0xFF66, "kana"),
    (0xFFA0, "hangul"),
    (0xFFE0, "other"),
    (0x20000, "han"),
    (0x32000, "other"),
)
"""Where Unicode's blocks of letters begin, and the script of their letters."""
_STARTS = [start for start, _ in _BLOCKS]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptFit:
    """The texts of one script."""

    script: str
    num_rows: int
    num_characters: int
    num_tokens: int
    num_unknown: int

    @property
    def tokens_per_character(self) -> float:
        """Tokens a character."""
        return self.num_tokens / self.num_characters if self.num_characters else 0.0

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return self.num_unknown / self.num_tokens if self.num_tokens else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a tokenizer takes the texts of rows; `scripts` has the largest first."""

    scripts: tuple[ScriptFit, ...]
    digits_per_token: float

    @property
    def num_characters(self) -> int:
        """Characters of all texts."""
        return sum(one.num_characters for one in self.scripts)

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(one.num_tokens for one in self.scripts)

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return sum(one.num_unknown for one in self.scripts) / self.num_tokens if self.num_tokens else 0.0

    def warnings(self) -> list[str]:
        """What a person should know of it before training."""
        found = []
        for one in self.scripts:
            named = f"{one.num_rows} rows in {one.script} letters"
            if one.unknown_share > MAX_UNKNOWN:
                found.append(
                    f"{one.unknown_share:.1%} of the tokens of {named} stand for text that the base's tokenizer does "
                    "not know: it is lost, in training and in answers"
                )
            if one.tokens_per_character > MAX_TOKENS_PER_CHARACTER:
                found.append(
                    f"{named} take {one.tokens_per_character:.1f} tokens a character: the base's tokenizer hardly "
                    "knows their language, so rows are long and little of them was learned before"
                )
        return found


def fit_of(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[str]]) -> Fit:
    """Tokenize the texts of rows and count.

    Args:
        tokenizer: the base model's.
        rows: the texts of each row, such as the contents of its messages.
    """
    unknown = tokenizer.unk_token_id
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    digits = tokens_of_digits = 0
    for texts in rows:
        text = "\n".join(texts)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        count = counts[script_of(text)]
        count["rows"] += 1
        count["characters"] += len(text)
        count["tokens"] += len(ids)
        count["unknown"] += sum(1 for number in ids if number == unknown) if unknown is not None else 0
        if any(_is_digit(c) for c in text):
            digits += sum(map(_is_digit, text))
            tokens_of_digits += sum(1 for token in tokenizer.convert_ids_to_tokens(ids) if any(map(_is_digit, token)))
    scripts = tuple(
        ScriptFit(
            script=script,
            num_rows=count["rows"],
            num_characters=count["characters"],
            num_tokens=count["tokens"],
            num_unknown=count["unknown"],
        )
        for script, count in sorted(counts.items(), key=lambda item: (-item[1]["characters"], item[0]))
    )
    return Fit(scripts=scripts, digits_per_token=digits / tokens_of_digits if tokens_of_digits else 0.0)


def script_of(text: str) -> str:
    """The script of most letters of a text; `other` where it has none. A tenth of kana tells Japanese from Chinese."""
    letters = Counter(_BLOCKS[bisect_right(_STARTS, ord(c)) - 1][1] for c in text if c.isalpha() and ord(c) >= 0x41)
    if not letters:
        return "other"
    if letters["kana"] * 10 >= letters["han"] + letters["kana"] > 0 and letters["kana"]:
        letters["kana"] += letters.pop("han", 0)
    return max(sorted(letters), key=letters.__getitem__)


def _is_digit(character: str) -> bool:
    return "0" <= character <= "9"
