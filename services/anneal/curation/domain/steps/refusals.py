r"""Drop rows whose answer refuses, or opens with an assistant's boilerplate about itself.

The wordings are those that filters of instruction data look for (the lists that ShareGPT's cleaners used, such as those
of Vicuna and WizardLM-uncensored, name the same stems), English only, in any case, with straight or curly apostrophes:

- a refusal opens the answer, after at most a greeting or an apology: I cannot / can't / am unable to / am not able to /
  will not / must decline to + assist, help, provide, answer, fulfill, generate, comply ...; I'm sorry, but I can't;
  it is not appropriate for me to; that goes against my guidelines.
- boilerplate opens a sentence among the first `OPENING` characters: as an AI (language model), as a large language
  model, I'm just an AI, my knowledge cutoff, as of my last update, I do not have personal opinions or feelings.

An answer that opens so and has many words is no refusal as a whole: it says what it cannot, then does something.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.counts import count_words
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import is_conversation, text_of

OPENING = 400
MAX_PHRASES = 1_000
_PREAMBLE = (
    r"(?:(?:hi|hello|hey|oh|well|thank you[^.!\n]{0,60}|thanks[^.!\n]{0,60}|unfortunately|"
    r"i(?: am|'m)(?: (?:so|very|really|truly))? (?:sorry|afraid)(?: (?:to hear|for)[^.!\n,]{0,60})?(?: that)?|"
    r"(?:my )?(?:sincere )?apologies|i (?:sincerely )?apologi[sz]e[^.!,\n]{0,60}|sorry|"
    r"as an? (?:[\w-]+ ){0,3}(?:ai|language model|assistant)[^.!,\n]{0,60})[\s,.!:;-]*"
    r"(?:but |and |however,? )?){0,4}"
)
_CANNOT = (
    r"i(?:'m| am)?,? (?:(?:really |simply |just |also )?(?:cannot|can't|can not|could not|couldn't|won't|will not|"
    r"(?:not|un)(?: |-)?able to|do not feel comfortable|don't feel comfortable|not comfortable|must (?:respectfully )?"
    r"decline|have to (?:respectfully )?decline|must refuse|refuse|decline|"
    r"not (?:programmed|designed|allowed|permitted)))"
)
_DEED = (
    r"(?: (?:to|in good conscience|ethically|directly|with|and will not|or will not|be able to)){0,2} "
    r"(?:assist|help|provid|answer|fulfil|generat|comply|complet|creat|writ|support|engag|respond|discuss|offer|"
    r"produc|process|do that|do this|participat|continu|shar|giv|recommend|condon|promot|encourag|satisf|carry out|"
    r"access|browse|open|translat|summari[sz])"
)
_OTHER_REFUSALS = (
    r"(?:it|this|that)(?:'s| is| would be| goes)? (?:not (?:appropriate|ethical|possible) for me to|"
    r"against my (?:programming|guidelines|policy|policies|principles))|"
    r"i do(?: not|n't) (?:assist|help) with (?:that|this|such)|this request (?:violates|goes against)"
)
_REFUSAL = rf"(?:{_CANNOT}{_DEED}|{_OTHER_REFUSALS})"
_BOILERPLATE = (
    r"as an? (?:[\w-]+ ){0,3}(?:ai\b|language model|artificial intelligence|virtual assistant|chatbot)|"
    r"i(?:'m| am)(?: just| only| merely)? an? (?:[\w-]+ ){0,3}(?:ai\b|language model|artificial intelligence|chatbot)|"
    r"my (?:knowledge|training)(?: data)?(?: cut-?off| only goes| is limited| was last updated)|"
    r"(?:as of|up to|until) my (?:last|latest|most recent) (?:knowledge |training )?(?:update|cut-?off)|"
    r"i (?:do not|don't) have (?:personal|real-time|feelings|emotions|beliefs|opinions|access to real-time|"
    r"the ability to)|"
    r"as a (?:responsible|helpful)(?: and [\w-]+)? (?:ai|assistant)"
)

_OPENS_WITH_REFUSAL = re.compile(rf"{_PREAMBLE}{_REFUSAL}", re.I)
_OPENS_SENTENCE = rf"(?:\A|[.!?,;:\n]\s*|\s(?:but|and|since|because)\s)(?:{_BOILERPLATE})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Drop a row whose answer refuses (`refusal`) or opens with boilerplate (`assistant_boilerplate`). Documents pass.

    Attributes:
        refusals: whether answers that refuse leave.
        boilerplate: whether answers with boilerplate in their opening leave.
        max_refusal_words: an answer of more words is no refusal as a whole.
        phrases: further openings that are boilerplate, in any case; at most 1,000.

    Raises:
        WrongSetting: nothing is looked for, there are too many phrases or a blank one, or a number is below 1.
    """

    refusals: bool = True
    boilerplate: bool = True
    max_refusal_words: int = 100
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        need(self.refusals or self.boilerplate or bool(self.phrases), "refusals", "nothing is looked for")
        need(self.max_refusal_words >= 1, "max_refusal_words", f"{self.max_refusal_words} is below 1")
        need(len(self.phrases) <= MAX_PHRASES, "phrases", f"{len(self.phrases)} are more than {MAX_PHRASES}")
        for index, phrase in enumerate(self.phrases):
            need(bool(phrase.strip()), f"phrases[{index}]", "is blank")

    def judge_unwanted(self, batch: pa.RecordBatch) -> Removals:
        """None: an unwanted answer may refuse."""
        return {}

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows with either, with the words that gave them away."""
        if not is_conversation(batch):
            return {}
        answers = text_of(batch, "answer")
        openings = _plain(pc.utf8_slice_codeunits(pc.utf8_ltrim_whitespace(answers), 0, OPENING))
        removals: dict[int, Removal] = {}
        if self.refusals:
            suspects = pc.indices_nonzero(pc.match_substring_regex(openings, _REFUSAL, ignore_case=True))
            words = count_words(answers.take(suspects)).tolist()
            for row, count in zip(suspects.to_pylist(), words, strict=True):
                found = _OPENS_WITH_REFUSAL.match(openings[row].as_py())
                if found and count <= self.max_refusal_words:
                    removals[row] = Removal("refusal", {"opening": found.group()[-120:], "words": count})
        opens = self._boilerplate()
        if not opens:
            return removals
        for row in pc.indices_nonzero(pc.match_substring_regex(openings, opens, ignore_case=True)).to_pylist():
            found = re.search(opens, openings[row].as_py(), re.I)
            if found:
                opening = " ".join(found.group().split())[:120]
                removals.setdefault(row, Removal("assistant_boilerplate", {"opening": opening}))
        return removals

    def _boilerplate(self) -> str:
        """One pattern, for RE2 and for `re`."""
        given = rf"\A(?:{'|'.join(re.escape(phrase.strip()) for phrase in self.phrases)})" if self.phrases else ""
        return "|".join(filter(None, (_OPENS_SENTENCE if self.boilerplate else "", given)))


def _plain(texts: pa.Array) -> pa.Array:
    """Texts with straight apostrophes."""
    return pc.replace_substring(texts, "\u2019", "'")
