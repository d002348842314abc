from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from pydantic import ValidationError

from anneal.synthesis.domain.engine import synthesize
from anneal.synthesis.domain.generators import GENERATORS
from anneal.synthesis.domain.generators.backtranslate import Backtranslate
from anneal.synthesis.domain.rows import Draft, Malformed
from anneal.synthesis.domain.teacher import Call, CallRefused, Question, Reply, TeacherBusy, TeacherLost, TeacherRefused
from tests.unit.synthesis.documents import COPY, POINT, document, entry, row
from tests.unit.synthesis.teachers import MemoryJournal, ScriptedTeacher, checks, classroom, reply, run

PAIR = ("What does copy do to src?", "Copy src to dst.")
OTHER = ("Must dst be writable?", "The destination must be writable.")


def questions(rows: list[dict[str, Any]], **params: Any) -> list[Question]:
    generator = Backtranslate.model_validate({"over": "spans", "min_extract_characters": 1, **params})
    return [one for one in generator.propose(rows) if isinstance(one, Question)]


def test_the_schema_bounds_the_list_and_never_a_string() -> None:
    (asked,) = questions([document(COPY)], pairs=4)
    text = str(asked.schema)
    assert "'maxItems': 4" in text
    assert "'minItems': 1" in text
    assert "Length" not in text
    assert "additionalProperties" in text


def test_the_teacher_reads_the_extract_cut_at_a_sentence() -> None:
    (asked,) = questions([document(COPY)], max_extract_characters=90)
    assert asked.extract == "demo.copy(src, dst, *, follow=True) Copy src to dst, e.g. a file."
    assert asked.extract in asked.messages[-1].content
    assert "Write 3 different" in asked.messages[-1].content


def test_short_passages_are_passed_over() -> None:
    size = len(COPY["signature"]) + 1 + len(COPY["body"])
    assert len(questions([document(COPY)], min_extract_characters=size)) == 1
    assert questions([document(COPY)], min_extract_characters=size + 1) == []


async def test_each_pair_becomes_a_row_with_its_whole_provenance() -> None:
    journal = MemoryJournal()
    found = await run(classroom(ScriptedTeacher(lambda *_: reply(PAIR, OTHER)), journal), [document(COPY)])
    first, second = found
    assert isinstance(first, Draft)
    assert isinstance(second, Draft)
    assert [(m.role, m.content) for m in first.messages] == [("user", PAIR[0]), ("assistant", PAIR[1])]
    assert first.parents == ("id-of-library/demo.html",)
    assert first.origin["teacher"] == {"asked": "teacher-1", "answered": "real-name"}
    assert first.origin["prompt_digest"].startswith("sha256:")
    assert first.origin["sampling"]["temperature"] == 0.0
    assert first.origin["sampling"]["max_tokens"] == 100
    assert (first.origin["pair"], second.origin["pair"]) == (0, 1)
    assert first.scores["grounding"] == 1.0


async def test_the_student_prompt_may_show_the_extract() -> None:
    room = classroom(ScriptedTeacher(lambda *_: reply(PAIR)), MemoryJournal())
    (only,) = await run(room, [document(COPY)], prompt="{{ extract }}\n\n{{ instruction }}", system="Read.")
    assert isinstance(only, Draft)
    assert only.messages[0].content == "Read."
    assert only.messages[1].content.startswith("demo.copy(")
    assert only.messages[1].content.endswith(PAIR[0])
    assert "writable" not in only.fresh


@pytest.mark.parametrize(
    ("text", "finish", "cause"),
    [
        ("no json at all", "stop", "malformed_answer"),
        ("", "stop", "empty_answer"),
        ('{"pairs": [{"instruction": "What is', "length", "truncated_answer"),
        ('{"pairs": [{"instruction": "What is it?"}]}', "stop", "malformed_pair"),
        ('{"pairs": [{"instruction": "short", "answer": "x"}]}', "stop", "malformed_pair"),
        ('{"pairs": [{"instruction": "long enough", "answer": "  "}]}', "stop", "malformed_pair"),
        ('{"pairs": ["nonsense"]}', "stop", "malformed_pair"),
    ],
)
async def test_a_bad_answer_is_quarantined_with_its_cause(text: str, finish: str, cause: str) -> None:
    teacher = ScriptedTeacher(lambda *_: reply(text=text, finish_reason=finish))
    (only,) = await run(classroom(teacher, MemoryJournal()), [document(COPY)])
    assert isinstance(only, Malformed)
    assert (only.cause, only.file) == (cause, "library/demo.html")
    assert only.byte_offset > 0


async def test_a_bad_pair_does_not_take_the_good_one_with_it() -> None:
    teacher = ScriptedTeacher(lambda *_: reply(("bad", "x"), PAIR))
    found = await run(classroom(teacher, MemoryJournal()), [document(COPY)])
    assert [type(one) for one in found] == [Malformed, Draft]


async def test_more_pairs_than_asked_for_are_quarantined() -> None:
    teacher = ScriptedTeacher(lambda *_: reply(PAIR, OTHER, ("One question more?", "Copy.")))
    found = await run(classroom(teacher, MemoryJournal()), [document(COPY)])
    assert [one.cause for one in found if isinstance(one, Malformed)] == ["surplus_pairs"]
    assert len(found) == 3


async def test_mended_answers_are_counted() -> None:
    room = classroom(ScriptedTeacher(lambda *_: reply(text="```json\n" + reply(PAIR).text)), MemoryJournal())
    (only,) = await run(room, [document(COPY)])
    assert isinstance(only, Draft)
    assert room.ledger.spending.repaired == 1


async def test_rows_that_repeat_or_make_things_up_stay_out_with_numbers() -> None:
    made_up = ("Who wrote the copy function?", "Shakespeare wrote this, says demo.")
    teacher = ScriptedTeacher(lambda *_: reply(PAIR, made_up))
    pages = [document(COPY), document(COPY, uri="other.html", intro="Other.")]
    found = await run(classroom(teacher, MemoryJournal()), pages, check=checks(min_grounding=0.6))
    kinds = [type(one).__name__ if isinstance(one, Draft) else getattr(one, "reason", "") for one in found]
    assert kinds == ["Draft", "not_grounded", "duplicate", "not_grounded"]
    ungrounded = found[1]
    assert not isinstance(ungrounded, Draft | Malformed)
    assert ungrounded.numbers["grounding"] < ungrounded.numbers["min_grounding"] == 0.6


async def test_grounding_exactly_at_the_threshold_is_kept() -> None:
    half = ("What is half of this?", "destination moon")
    teacher = ScriptedTeacher(lambda *_: reply(half))
    (kept,) = await run(classroom(teacher, MemoryJournal()), [document(COPY)], check=checks(min_grounding=0.5))
    assert isinstance(kept, Draft)
    (out,) = await run(classroom(teacher, MemoryJournal()), [document(COPY)], check=checks(min_grounding=0.51))
    assert not isinstance(out, Draft)


def pages(number: int) -> list[dict[str, Any]]:
    return [document(entry("function", f"f{n}()", f"Does thing {n}. Well."), uri=f"p{n}") for n in range(number)]


async def test_rows_come_in_the_order_of_the_input_whoever_answers_first() -> None:
    teacher = ScriptedTeacher(lambda call, _: reply((f"What is it in {call.question.passage.name}?", "Does thing.")))
    found = await run(classroom(teacher, MemoryJournal()), pages(12))
    assert [one.source for one in found if isinstance(one, Draft)] == [f"p{n}" for n in range(12)]
    assert teacher.most_under_way == 4


async def test_busy_and_lost_teachers_are_asked_again_and_only_lost_calls_cost() -> None:
    faults: list[Exception] = [TeacherBusy("429"), TeacherLost("timeout")]
    teacher = ScriptedTeacher(lambda _, n: faults[n - 1] if n <= 2 else reply(PAIR))
    room = classroom(teacher, MemoryJournal())
    (only,) = await run(room, [document(COPY)])
    assert isinstance(only, Draft)
    assert room.ledger.spending.failed_attempts == 2
    assert room.ledger.spending.assumed_tokens == room.ledger.spending.spent_tokens - 50 > 0


async def test_a_teacher_that_stays_away_fails_the_run_and_a_restart_pays_nothing_twice() -> None:
    journal = MemoryJournal()
    first = ScriptedTeacher(
        lambda call, _: TeacherLost("x") if call.question.passage.name == "f3" else reply((f"Q {call.key}", "A."))
    )
    with pytest.raises(TeacherLost):
        await run(classroom(first, journal), pages(4))
    second = ScriptedTeacher(lambda call, _: reply((f"Q {call.key}", "A.")))
    room = classroom(second, journal.copy())
    found = await run(room, pages(4))
    assert len([one for one in found if isinstance(one, Draft)]) == 4
    assert len(second.asked) == 1
    assert room.ledger.spending.reused == 3


async def test_one_refused_call_is_quarantined_and_the_others_go_on() -> None:
    teacher = ScriptedTeacher(
        lambda call, _: CallRefused("too long") if call.question.passage.name == "f1" else reply((call.key, "A."))
    )
    found = await run(classroom(teacher, MemoryJournal()), pages(3))
    assert [one.cause for one in found if isinstance(one, Malformed)] == ["teacher_refused"]
    assert teacher.asked.count(teacher.asked[1]) == 1
    assert len(found) == 3


async def test_a_teacher_that_refuses_everything_ends_the_run() -> None:
    teacher = ScriptedTeacher(lambda *_: TeacherRefused("no such model"))
    with pytest.raises(TeacherRefused):
        await run(classroom(teacher, MemoryJournal()), pages(3))


async def test_the_budget_is_never_passed_and_what_was_not_asked_is_counted() -> None:
    teacher = ScriptedTeacher(lambda call, _: reply((f"Q {call.key}", "A.")))
    room = classroom(teacher, MemoryJournal(), budget=1_500)
    found = await run(room, pages(30))
    spending = room.ledger.spending
    assert spending.spent_tokens <= 1_500
    assert spending.calls == len(found)
    assert spending.calls + spending.not_asked == 30
    assert spending.not_asked > 0


async def test_leaving_early_pays_for_the_calls_under_way() -> None:
    teacher = ScriptedTeacher(
        lambda call, _: reply((f"Q {call.key}", "A.")), slow=lambda call: call.question.passage.name != "f0"
    )
    room = classroom(teacher, MemoryJournal())
    generator = Backtranslate.model_validate({"over": "spans", "min_extract_characters": 1})
    async with aclosing(synthesize(generator, pages(8), checks(), room)) as outcomes:
        async for _ in outcomes:
            break
    spending = room.ledger.spending
    assert (spending.calls, spending.failed_attempts, len(teacher.asked)) == (1, 3, 4)
    assert spending.spent_tokens == spending.assumed_tokens + 50
    assert spending.assumed_tokens > 300


async def test_a_broken_document_between_good_ones_keeps_its_place() -> None:
    teacher = ScriptedTeacher(lambda call, _: reply((call.key, "A.")))
    rows = [document(COPY, uri="a"), row("x", {"spans": [{"start": 9}]}, uri="b"), document(POINT, uri="c")]
    found = await run(classroom(teacher, MemoryJournal()), rows)
    assert [one.file if isinstance(one, Malformed) else "row" for one in found] == ["row", "b", "row"]


async def test_equal_questions_get_equal_seeds_and_others_do_not() -> None:
    seeds: list[int] = []

    def answer(call: Call, _: int) -> Reply:
        seeds.append(call.seed)
        return reply((call.key, "A."))

    teacher = ScriptedTeacher(answer)
    await run(classroom(teacher, MemoryJournal()), pages(2))
    await run(classroom(teacher, MemoryJournal()), pages(2))
    assert len(set(seeds)) == 2
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"pairs": 0}, "pairs"),
        ({"pairs": 21}, "pairs"),
        ({"over": "lines"}, "over"),
        ({"prompt": "{{ x }}"}, "prompt"),
        ({"teacher_prompt": "{% if %}"}, "teacher_prompt"),
        ({"min_answer_characters": 9, "max_answer_characters": 8}, ""),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_bad_setting_is_named_by_its_field(params: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Backtranslate.model_validate(params)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]


async def test_a_generator_that_needs_a_teacher_says_so() -> None:
    assert GENERATORS["backtranslate"].needs_teacher
    with pytest.raises(ValueError, match="needs a teacher"):
        await run(None, [document(COPY)])
