"""Drop rows in another language than those allowed.

The model is py3langid's (`languages.py`). Fenced code is left out; of a long text the first `MAX_CHARACTERS` are looked
at.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.languages import languages_of
from anneal.curation.domain.prose import prose_of
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part, text_of

# More hardly changes the verdict, and each byte is looked at.
MAX_CHARACTERS = 600
# What the model tells apart, in ISO 639; its `zxx`, which says that a text is in none, is unknown here.
_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr "
    "fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko "
    "ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru "
    "rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo "
    "yue zh zu "
)
LANGUAGES: frozenset[str] = frozenset(_CODES.split())
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """Drop a row whose text is surely in a language that is not allowed.

    A text is unknown, and passes, when it has too few letters, or the model is not sure enough or sees
    no language in it.

    Attributes:
        allowed: ISO 639 codes of the model's languages, such as `en`.
        min_confidence: how sure the model must be to take a row away, 0 to 1: its normalised probability.
        min_letters: fewer letters than this tell nothing.
        part: where to look.

    Raises:
        WrongSetting: no language is named, one twice or one unknown to the model, or a number is outside its limits.
    """

    allowed: tuple[str, ...]
    min_confidence: float = 0.8
    min_letters: int = 20
    part: Part = "answer"

    def __post_init__(self) -> None:
        need(0 < len(self.allowed) == len(set(self.allowed)), "allowed", "none is named, or one twice")
        for index, code in enumerate(self.allowed):
            need(code in LANGUAGES, f"allowed[{index}]", f"{code[:20]!r} is none of: {', '.join(sorted(LANGUAGES))}")
        need(0 <= self.min_confidence <= 1, "min_confidence", f"{self.min_confidence} is not within 0 and 1")
        need(self.min_letters >= 1, "min_letters", f"{self.min_letters} is below 1")

    def judge_unwanted(self, batch: pa.RecordBatch) -> Removals:
        """None: an unwanted answer may be in any language."""
        return {}

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows in another language, with that language and the model's confidence."""
        texts = pc.utf8_slice_codeunits(prose_of(text_of(batch, self.part)), 0, MAX_CHARACTERS)
        letters = pc.count_substring_regex(texts, r"\p{L}")
        enough = pc.indices_nonzero(pc.greater_equal(letters, self.min_letters))
        rows, known = enough.to_pylist(), languages_of(texts.take(enough).to_pylist())
        return {
            row: Removal("wrong_language", {"language": language, "confidence": round(confidence, 4)})
            for row, (language, confidence) in zip(rows, known, strict=True)
            if language not in (*self.allowed, _NO_LANGUAGE) and confidence >= self.min_confidence
        }
