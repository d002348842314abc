"""Drop conversations that are not made the way training needs them.

Roles: at most one system message, first; then user and assistant by turns, beginning with the user; tool results only
between two assistant messages; the assistant has the last word, and it says something or calls a tool. Of a
preference an unwanted answer is held to no more than this.

A truncated answer is one of at least `MIN_SENTENCE` words whose last line is prose and stops in mid-sentence: after a
letter, a comma, a hyphen or an opening bracket, where another line or the same ends a sentence. Code, lists, tables,
headings, JSON, and answers without any sentence never are. It is a guess: titles, signatures and keywords end so too.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.steps.base import Removal, Removals
from anneal.curation.domain.texts import Messages, is_conversation, joined, text_of, turns_of

_LETTERS = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}
_IN_ORDER = r"^s?(?:u(?:at+)*a)+$"
_FENCED = re.compile(
    r"^( {0,3})(`{3,}|~{3,})[ \t]*(?:python3?|py)\b[^\n]*\n(.*?)^ {0,3}\2[`~]*[ \t]*$", re.M | re.S | re.I
)
# What templates leave behind: {{ name }}, {% if x %}, [INSERT NAME], [YOUR COMPANY], <INSERT TEXT>.
_PLACEHOLDER = (
    r"\{\{\s*[A-Za-z_][\w.]*\s*(?:\|[^{}\n]*)?\}\}|\{%-?\s*[a-z]+\b[^%\n]*%\}|[\[<](?:INSERT|YOUR)[ _][A-Z _]+[\]>]"
)
_TRIMMED = re.compile(_PLACEHOLDER)
# One pass over the texts instead of one for each fault: few rows hold any of these.
_SUSPICIOUS = r"\{[{%]|[\[<](?:INSERT|YOUR)[ _]|```|~~~"
# Words of the last line from which on it can be a sentence that was cut.
MIN_SENTENCE = 4
_CUT = r"[\p{L}\p{N},;(\[\p{Pd}]\s*$"
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?:\s|$)")
_NOT_PROSE = re.compile(r"^(?:\s{4}|\t|\s*(?:[-*+•|>#]|\d+[.)]|[a-z][.)]|>>>)\s?)|[{}=;|`]|\w\(|\w_\w|://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Drop a conversation whose roles, answer, JSON, Python or template is broken. Documents pass.

    Attributes:
        answer: what every answer must be: `text`, or one `json` value (RFC 8259: no NaN).
        python: whether fenced Python in the answer must compile; of a block with `>>>` prompts, what was typed.
        placeholders: whether a template's placeholder left in any message is a fault.
        truncated: whether an answer that stops in mid-sentence is a fault; off, since short answers may end so.
    """

    answer: Literal["text", "json"] = "text"
    python: bool = True
    placeholders: bool = True
    truncated: bool = False

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The broken rows, with the first fault each has."""
        if not is_conversation(batch):
            return {}
        removals = self.judge_unwanted(batch)
        answers = text_of(batch, "answer")
        if self.answer == "json":
            _judge_texts(enumerate(answers.to_pylist()), _fault_in_json, "invalid_json", removals)
        if self.python or self.placeholders:
            self._judge_suspicious(batch, removals)
        if self.truncated:
            cut = pc.indices_nonzero(pc.match_substring_regex(answers, _CUT)).to_pylist()
            _judge_texts(((row, answers[row].as_py()) for row in cut), _truncation, "truncated_answer", removals)
        return removals

    def judge_unwanted(self, batch: pa.RecordBatch) -> dict[int, Removal]:
        """The rows whose roles are out of order, or that end without an answer."""
        removals = dict(_judge_roles(Messages(batch)))
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text_of(batch, "answer"))), 0)
        for row in pc.indices_nonzero(empty).to_pylist():
            removals.setdefault(row, Removal("empty_answer"))
        return removals

    def _judge_suspicious(self, batch: pa.RecordBatch, removals: dict[int, Removal]) -> None:
        texts, rows = turns_of(batch, "conversation")
        turns = pc.indices_nonzero(pc.match_substring_regex(texts, _SUSPICIOUS)).to_pylist()
        found = [(int(rows[turn]), texts[turn].as_py(), turn) for turn in turns]
        if self.python:
            last = Messages(batch).offsets[1:] - 1
            answers = ((row, text) for row, text, turn in found if turn == last[row])
            _judge_texts(answers, _fault_in_python, "invalid_python", removals)
        if self.placeholders:
            _judge_texts(((row, text) for row, text, _ in found), _placeholder, "placeholder_left", removals)


def _judge_roles(messages: Messages) -> Iterator[tuple[int, Removal]]:
    known = pa.array(list(_LETTERS), type=pa.string())
    letters = pc.take(pa.array([*_LETTERS.values()]), pc.index_in(messages.roles, known))
    spelled = joined(pc.fill_null(letters, "?").cast(pa.large_string()), messages.offsets, "")
    wrong = pc.invert(pc.match_substring_regex(spelled, _IN_ORDER))
    for row in pc.indices_nonzero(wrong).to_pylist():
        order = spelled[row].as_py()
        if not order:
            yield row, Removal("no_messages")
        elif "?" in order:
            start = int(messages.offsets[row])
            role = messages.roles[start + order.index("?")].as_py()
            yield row, Removal("unknown_role", {"role": role[:80], "message": order.index("?")})
        elif order[-1] != "a":
            yield row, Removal("no_answer", {"messages": len(order)})
        else:
            yield row, Removal("roles_out_of_order", {"messages": len(order)})


def _judge_texts(
    texts: Iterable[tuple[int, str]],
    fault: Callable[[str], dict[str, Any] | None],
    reason: str,
    removals: dict[int, Removal],
) -> None:
    for row, text in texts:
        numbers = None if row in removals else fault(text)
        if numbers is not None:
            removals[row] = Removal(reason, numbers)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _fault_in_json(text: str) -> dict[str, Any] | None:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        return {"fault": "nested too deep"}
    except json.JSONDecodeError as error:
        return {"fault": error.msg, "character": error.pos}
    except ValueError as error:
        return {"fault": str(error)[:80]}
    return None


def _fault_in_python(text: str) -> dict[str, Any] | None:
    for indent, _, body in _FENCED.findall(text):
        code = _typed(re.sub(rf"^ {{0,{len(indent)}}}", "", body, flags=re.M) if indent else body)
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(code, "<answer>", "exec", flags=flags, dont_inherit=True)
        except SyntaxError as error:
            return {"fault": error.msg[:80], "line": error.lineno or 0}
        except (RecursionError, MemoryError):
            return {"fault": "nested too deep"}
        except ValueError as error:  # null bytes
            return {"fault": str(error)[:80]}
    return None


def _typed(code: str) -> str:
    """What was typed in an interactive session; other code as it is."""
    lines = code.split("\n")
    if not any(line.lstrip().startswith(">>>") for line in lines):
        return code
    prompts = (line.lstrip() for line in lines)
    return "\n".join(line[4:] for line in prompts if line[:4] in (">>> ", "... ", ">>>", "..."))


def _placeholder(text: str) -> dict[str, Any] | None:
    found = _TRIMMED.search(text)
    return {"placeholder": found.group()[:80]} if found else None


def _truncation(text: str) -> dict[str, Any] | None:
    text = text.rstrip()
    line = text.rpartition("\n")[2]
    in_code = text.count("```") % 2 == 1
    if in_code or text[0] in "{[" or _NOT_PROSE.search(line) or len(line.split()) < MIN_SENTENCE:
        return None
    return {"ending": line[-80:]} if _SENTENCE_END.search(text) else None
