from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from anneal.synthesis.domain.documents import Over, passages, read_document
from anneal.synthesis.domain.generators.template import Template
from anneal.synthesis.domain.rows import Draft, Malformed, Outcome, Removed
from anneal.synthesis.domain.tasks import Where, stands_in, without_leading_words
from tests.unit.synthesis.documents import BROKEN, COPY, LIMIT, POINT, document, entry, row


def task(**more: Any) -> dict[str, Any]:
    return {"name": "t", "over": "spans", "prompts": ["Q: {{ signature }}"], "answer": "{{ type }}", **more}


def make(*tasks: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> list[Outcome]:
    generator = Template.model_validate({"tasks": tasks})
    return list(generator.propose([document(COPY, POINT, BROKEN, LIMIT)] if rows is None else rows))


def drafts(found: list[Outcome]) -> list[Draft]:
    return [one for one in found if isinstance(one, Draft)]


def removed(found: list[Outcome]) -> list[Removed]:
    return [one for one in found if isinstance(one, Removed)]


def test_a_row_carries_messages_source_parents_and_origin() -> None:
    found = drafts(make(task(system="Be brief.", where={"types": ["class"]})))
    assert len(found) == 1
    (only,) = found
    assert [(m.role, m.content) for m in only.messages] == [
        ("system", "Be brief."),
        ("user", "Q: class demo.Point(x, y)"),
        ("assistant", "class"),
    ]
    assert only.source == "library/demo.html"
    assert only.parents == ("id-of-library/demo.html",)
    assert only.origin["generator"] == "template"
    assert only.origin["task"] == "t"
    assert only.origin["task_digest"].startswith("sha256:")
    assert only.origin["document"] == "id-of-library/demo.html"
    assert only.origin["start"] < only.origin["end"]
    assert only.evidence == ""


def test_the_phrasing_of_a_passage_never_changes() -> None:
    many = [entry("function", f"f{n}()", "Body. More.") for n in range(40)]
    phrased = task(prompts=["A {{ name }}", "B {{ name }}"])
    first = [d.messages[0].content for d in drafts(make(phrased, rows=[document(*many)]))]
    second = [d.messages[0].content for d in drafts(make(phrased, rows=[document(*many)]))]
    assert first == second
    assert {text[0] for text in first} == {"A", "B"}


def test_the_digest_of_a_task_changes_with_its_text() -> None:
    one, two = (drafts(make(task(answer=text)))[0].origin["task_digest"] for text in ("{{ type }}", "{{ type }}!"))
    assert one != two


def test_leading_words_are_hidden_from_every_template() -> None:
    found = drafts(make(task(hide_leading_words=["class", "exception"], prompts=["{{ signature }} {{ entry }}"])))
    text = "\n".join(one.messages[0].content for one in found)
    assert "class demo" not in text
    assert "exception demo" not in text


def test_several_leading_words_go_and_a_lone_one_stays() -> None:
    assert without_leading_words("abstractmethod async f()", ("async", "abstractmethod")) == "f()"
    assert without_leading_words("class", ("class",)) == "class"
    assert without_leading_words("classy f()", ("class",)) == "classy f()"


def test_an_answer_standing_in_a_hidden_field_is_a_leak() -> None:
    leaky = entry("method", "Request.method()", "Body. More.")
    found = make(task(hide_answer_from=["signature"]), rows=[document(leaky, COPY)])
    assert [one.reason for one in removed(found)] == ["answer_leaks"]
    assert len(drafts(found)) == 1


@pytest.mark.parametrize(
    ("answer", "text", "stands"),
    [("class", "a Class of", True), ("class", "new_class()", False), ("class", "isclass", False), ("a", "(a)", True)],
)
def test_only_a_whole_word_is_a_leak(answer: str, text: str, stands: bool) -> None:
    assert stands_in(answer, text) is stands


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_answer_characters": 5}, None),
        ({"min_answer_characters": 6}, "answer_too_short"),
        ({"max_answer_characters": 5}, None),
        ({"max_answer_characters": 4}, "answer_too_long"),
        ({"min_prompt_characters": 25}, None),
        ({"min_prompt_characters": 26}, "prompt_too_short"),
        ({"max_prompt_characters": 25}, None),
        ({"max_prompt_characters": 24}, "prompt_too_long"),
        ({"answer": "{{ '' }}"}, "empty_answer"),
    ],
)
def test_each_limit_holds_on_both_sides(limits: dict[str, Any], reason: str | None) -> None:
    assert len("Q: class demo.Point(x, y)") == 25
    found = make(task(**limits), rows=[document(POINT)])
    assert [one.reason for one in removed(found)] == ([reason] if reason else [])
    assert len(drafts(found)) == (0 if reason else 1)


def holds(where: dict[str, Any], item: dict[str, Any] = COPY, **columns: Any) -> bool:
    page = {**document(item), **columns}
    (passage,) = passages(read_document(page), Over.SPANS)
    return Where.model_validate(where).holds(passage)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"types": ["function"]}, True),
        ({"types": ["class"]}, False),
        ({"domains": ["py"]}, True),
        ({"domains": ["c"]}, False),
        ({"sources": ["library/*"]}, True),
        ({"sources": ["c-api/*"]}, False),
        ({"languages": ["en"]}, True),
        ({"languages": ["de"]}, False),
        ({"levels": [0]}, True),
        ({"levels": [1]}, False),
        ({"min_params": 3}, True),
        ({"min_params": 4}, False),
        ({"max_params": 3}, True),
        ({"max_params": 2}, False),
        ({"min_sentences": 3}, True),
        ({"min_sentences": 4}, False),
        ({"max_sentences": 3}, True),
        ({"max_sentences": 2}, False),
        ({"min_body_characters": len(COPY["body"])}, True),
        ({"min_body_characters": len(COPY["body"]) + 1}, False),
        ({"max_body_characters": len(COPY["body"])}, True),
        ({"max_body_characters": len(COPY["body"]) - 1}, False),
        ({"min_characters": len(COPY["signature"]) + 1 + len(COPY["body"])}, True),
        ({"max_characters": len(COPY["signature"]) + len(COPY["body"])}, False),
        ({"skip_bodies_starting_with": ["Copy"]}, False),
        ({"skip_bodies_starting_with": ["Move"]}, True),
        ({"equals": {"media_type": ["text/html"]}}, True),
        ({"equals": {"media_type": ["text/plain"]}}, False),
        ({"equals": {"meta.sections.title": ["demo"]}}, False),
    ],
)
def test_each_condition_holds_on_both_sides(where: dict[str, Any], expected: bool) -> None:
    assert holds(where) is expected


def test_parameters_that_are_no_names_are_told_from_those_that_are() -> None:
    plain = entry("function", "f(*a, **b)", "Body.", params=("*a", "**b", "_c1"))
    assert holds({"plain_params": True}, plain)
    for bad in ("a=None", "...", "a or b", "(left", "***x"):
        assert not holds({"plain_params": True}, entry("function", "f()", "Body.", params=(bad,)))


def test_a_class_of_rows_is_capped_and_the_choice_does_not_depend_on_order() -> None:
    pages = [document(*(entry("data", f"d{n}.X{m}", "Body.") for m in range(5)), uri=f"p{n}") for n in range(4)]
    capped = task(label="{{ type }}", max_rows_per_label=7, prompts=["{{ name }}"])
    forwards, backwards = make(capped, rows=pages), make(capped, rows=pages[::-1])
    kept = {one.messages[0].content for one in drafts(forwards)}
    assert len(kept) == 7
    assert kept == {one.messages[0].content for one in drafts(backwards)}
    assert [one.reason for one in removed(forwards)] == ["over_label_cap"] * 13


def test_a_cap_as_large_as_the_class_removes_nothing() -> None:
    assert removed(make(task(label="{{ type }}", max_rows_per_label=1))) == []


def test_a_task_is_capped_over_all_its_classes() -> None:
    found = make(task(label="{{ type }}", max_rows_per_label=1, max_rows=3))
    assert len(drafts(found)) == 3
    assert [one.reason for one in removed(found)] == ["over_task_cap"]
    assert len(drafts(make(task(max_rows=2)))) == 2
    assert len(drafts(make(task(max_rows=4)))) == 4


def test_rows_keep_the_order_of_the_input() -> None:
    found = drafts(make(task(max_rows=3)))
    assert [one.origin["start"] for one in found] == sorted(one.origin["start"] for one in found)


def test_structured_rows_are_read_by_column() -> None:
    rows = [row("", {"topic": "tea"}, uri="a"), row("", {"topic": "rain"}, uri="b")]
    about = task(over="rows", prompts=["About {{ row.meta.topic }}"], answer="{{ row.uri }}")
    about["where"] = {"equals": {"meta.topic": ["tea"]}}
    assert [one.messages[0].content for one in drafts(make(about, rows=rows))] == ["About tea"]


def test_a_column_that_a_row_lacks_is_quarantined_with_its_cause() -> None:
    found = make(task(over="rows", answer="{{ row.nothing }}"), rows=[row("text", {})])
    (only,) = found
    assert isinstance(only, Malformed)
    assert only.cause == "template_failed"
    assert "task 't'" in only.reason


def test_a_broken_document_is_quarantined_once_and_the_others_go_on() -> None:
    broken = row("x", {"spans": [{"start": 9, "end": 9}]}, uri="broken")
    found = make(task(), task(name="u"), rows=[broken, document(COPY)])
    assert [one.file for one in found if isinstance(one, Malformed)] == ["broken"]
    assert len(drafts(found)) == 2


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": [task(), task()]}, ""),
        ({"tasks": [task(surprise=1)]}, "tasks.0.surprise"),
        ({"tasks": [task(where={"typ": ["x"]})]}, "tasks.0.where.typ"),
        ({"tasks": [task(where={"min_params": 3, "max_params": 2})]}, "tasks.0.where"),
        ({"tasks": [task(over="pages")]}, "tasks.0.over"),
        ({"tasks": [task(prompts=["ok", "{{ "])]}, "tasks.0.prompts.1"),
        ({"tasks": [task(prompts=[])]}, "tasks.0.prompts"),
        ({"tasks": [task(name="Bad Name")]}, "tasks.0.name"),
        ({"tasks": [task(max_rows=0)]}, "tasks.0.max_rows"),
        ({"tasks": [task(max_rows_per_label=3)]}, "tasks.0"),
        ({"tasks": [task(max_rows=1.5)]}, "tasks.0.max_rows"),
        ({"task": []}, "task"),
    ],
)
def test_a_bad_setting_is_named_by_its_field(params: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Template.model_validate(params)
    assert field in [".".join(map(str, error["loc"])) for error in caught.value.errors()]


def test_whole_numbers_may_come_as_floats_from_json() -> None:
    assert Template.model_validate({"tasks": [task(max_rows=3.0)]}).tasks[0].max_rows == 3
