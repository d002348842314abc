from __future__ import annotations

import pytest

from anneal.curation.domain.steps.base import Removal, WrongSetting
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.length import Length
from tests.unit.curation.rows import asked, judged, reasons, said


@pytest.mark.parametrize(
    ("limit", "inside", "outside", "reason"),
    [
        ({"min_prompt_characters": 3}, asked("äbc", "x"), asked("äb", "x"), "prompt_too_short"),
        ({"max_prompt_characters": 3}, asked("äbc", "x"), asked("äbcd", "x"), "prompt_too_long"),
        ({"min_prompt_words": 2}, asked("a b", "x"), asked("a!", "x"), "prompt_too_short"),
        ({"max_prompt_words": 2}, asked("a b", "x"), asked("a b c", "x"), "prompt_too_long"),
        ({"min_answer_characters": 3}, asked("x", "😀😀😀"), asked("x", "😀😀"), "answer_too_short"),
        ({"max_answer_characters": 3}, asked("x", "😀😀😀"), asked("x", "😀😀😀😀"), "answer_too_long"),
        ({"min_answer_words": 2}, asked("x", "a-b"), asked("x", "a_b"), "answer_too_short"),
        ({"max_answer_words": 2}, asked("x", "a, b"), asked("x", "a b c"), "answer_too_long"),
        ({"min_prompt_tokens": 2}, asked("a b", "x"), asked("a", "x"), "prompt_too_short"),
        ({"max_prompt_tokens": 2}, asked("a b", "x"), asked("a b c", "x"), "prompt_too_long"),
        ({"min_answer_tokens": 2}, asked("x", "a!"), asked("x", " a"), "answer_too_short"),
        ({"max_answer_tokens": 2}, asked("x", "123456"), asked("x", "1234567"), "answer_too_long"),
        ({"min_conversation_characters": 3}, asked("ab", "c"), asked("a", "c"), "conversation_too_short"),
        ({"max_conversation_characters": 3}, asked("ab", "c"), asked("ab", "cd"), "conversation_too_long"),
        ({"min_conversation_words": 3}, asked("a b", "c"), asked("a", "c"), "conversation_too_short"),
        ({"max_conversation_words": 3}, asked("a b", "c"), asked("a b", "c d"), "conversation_too_long"),
        ({"min_conversation_tokens": 3}, asked("a b", "c"), asked("a", "c"), "conversation_too_short"),
        ({"max_conversation_tokens": 3}, asked("a b", "c"), asked("a b", "c d"), "conversation_too_long"),
    ],
)
def test_a_limit_itself_is_allowed(limit: dict[str, int], inside: dict, outside: dict, reason: str) -> None:  # type: ignore[type-arg]
    assert reasons(Length(**limit), inside, outside) == ["", reason]


def test_length_gives_its_numbers() -> None:
    (removal,) = judged(Length(max_answer_characters=3), asked("x", "four"))
    assert removal == Removal("answer_too_long", {"characters": 4, "max_characters": 3})


def test_emoji_have_no_words() -> None:
    assert reasons(Length(min_answer_words=1), asked("x", "😀🎉 👍")) == ["answer_too_short"]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Length(), "min_answer_characters"),
        (lambda: Length(min_answer_words=-1), "min_answer_words"),
        (lambda: Length(min_prompt_words=3, max_prompt_words=2), "max_prompt_words"),
        (lambda: Length(max_conversation_tokens=-1), "max_conversation_tokens"),
        (lambda: Keywords(exclude=()), "exclude"),
        (lambda: Keywords(exclude=("a", "")), "exclude[1]"),
    ],
)
def test_impossible_settings_name_their_field(make, field: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WrongSetting) as wrong:
        make()
    assert wrong.value.field == field


def test_keywords_are_whole_words_in_any_case() -> None:
    step = Keywords(exclude=("cat", "big dog", "c++", "straße"))
    rows = [
        asked("x", text)
        for text in ("a CAT.", "concatenate", "cat_food", "BIG \n dog", "bigdog", "C++!", "c++x", "Die STRASSE, straße")
    ]
    assert [bool(reason) for reason in reasons(step, *rows)] == [True, False, False, True, False, True, False, True]
    (removal,) = judged(step, asked("cat", "Big  Dog and cat"))
    assert removal == Removal("excluded_keyword", {"keyword": "cat", "matches": 3})


def test_keywords_look_at_their_part() -> None:
    assert reasons(Keywords(exclude=("cat",), part="answer"), asked("cat", "x"), asked("x", "cat")) == [
        "",
        "excluded_keyword",
    ]


def test_keywords_are_found_whatever_their_number() -> None:
    step = Keywords(exclude=tuple(f"word{number}" for number in range(1_201)))
    rows = [asked("x", f"the word{number}.") for number in (0, 600, 1_200, 1_201)]
    assert reasons(step, *rows) == ["excluded_keyword"] * 3 + [""]


def test_a_phrase_stands_in_one_message() -> None:
    step = Keywords(exclude=("big dog",))
    rows = said(("user", "big"), ("assistant", "dog")), said(("system", "big dog"), ("user", "x"), ("assistant", "y"))
    assert reasons(step, *rows) == ["", "excluded_keyword"]


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("user assistant", ""),
        ("system user assistant user assistant", ""),
        ("user assistant tool tool assistant", ""),
        ("", "no_messages"),
        ("user", "no_answer"),
        ("user assistant user", "no_answer"),
        ("user robot assistant", "unknown_role"),
        ("assistant", "roles_out_of_order"),
        ("user user assistant", "roles_out_of_order"),
        ("user system assistant", "roles_out_of_order"),
        ("system assistant", "roles_out_of_order"),
        ("user tool assistant", "roles_out_of_order"),
    ],
)
def test_roles_are_known_and_in_order(roles: str, reason: str) -> None:
    assert reasons(Format(), said(*((role, "x") for role in roles.split()))) == [reason]


def test_an_unknown_role_is_named() -> None:
    (removal,) = judged(Format(), said(("user", "x"), ("robot", "y"), ("assistant", "z")))
    assert removal == Removal("unknown_role", {"role": "robot", "message": 1})


def test_an_answer_says_something() -> None:
    assert reasons(Format(), asked("x", " \n\u2003"), asked("x", ".")) == ["empty_answer", ""]


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ('["a"]', True),
        ('{"a": 1e5}', True),
        ("7", True),
        ("[a]", False),
        ("NaN", False),
        ('{"a": Infinity}', False),
        ("[1] [2]", False),
        ("[" * 100_000, False),
        ("[" * 100_000 + "]" * 100_000, False),
    ],
)
def test_json_parses(answer: str, good: bool) -> None:
    assert reasons(Format(answer="json"), asked("x", answer)) == ["" if good else "invalid_json"]
    assert reasons(Format(), asked("x", answer)) == [""]


@pytest.mark.parametrize(
    ("code", "good"),
    [
        ("x = 1\nif x:\n    print(x)", True),
        ("await f()", True),
        (">>> x = 1\n>>> for i in y:\n...     i\n...\n1\nTraceback nonsense", True),
        ("'\\d'", True),
        ("x = = 1", False),
        ("if x:\nprint(x)", False),
        (">>> x = = 1", False),
        ("x\0", False),
        ("(" * 1000, False),
        ("-" * 100_000 + "1", False),
    ],
)
def test_fenced_python_compiles(code: str, good: bool) -> None:
    row = asked("x", f"See:\n```python\n{code}\n```\nDone.")
    assert reasons(Format(), row) == ["" if good else "invalid_python"]
    assert reasons(Format(python=False), row) == [""]


def test_only_fenced_python_has_to_compile() -> None:
    assert reasons(Format(), asked("x", "```c\nint x = 1;\n```\n"), asked("```python\nx = = 1\n```", "y")) == ["", ""]


@pytest.mark.parametrize("left", ["{{ name }}", "{{name|upper}}", "{% if x %}", "[INSERT NAME HERE]", "<YOUR COMPANY>"])
def test_placeholders_are_faults_anywhere(left: str) -> None:
    rows = asked(f"Hello {left}!", "x"), asked("x", f"Hello {left}!")
    assert reasons(Format(), *rows) == ["placeholder_left"] * 2
    assert reasons(Format(placeholders=False), *rows) == [""] * 2


def test_braces_that_are_no_placeholders_pass() -> None:
    texts = ["{'a': {1: 2}}", "f'{x}'", "{{}}", "a[YOUR]", "{{1}}", "100 % of {x}", "<your name>"]
    assert reasons(Format(), *(asked("x", text) for text in texts)) == [""] * len(texts)


@pytest.mark.parametrize(
    "answer",
    [
        "It takes three arguments. The first is the name of the",
        "It takes three. They are the name, the size,",
        "Paris is big. It is the capital of (",
        "See below.\n\nThe second of them is well-",
    ],
)
def test_an_answer_that_stops_in_mid_sentence_is_truncated(answer: str) -> None:
    assert reasons(Format(truncated=True), asked("x", answer)) == ["truncated_answer"]
    assert reasons(Format(), asked("x", answer)) == [""]


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "the capital of France",
        "It is the capital. It is big!",
        "It is the capital (it is big.)",
        'He said: "It is the capital."',
        "Do this. Like so:\n\n- open the front door\n- walk through the door",
        "Do this. Like so:\n\n1. open the front door\n2. walk through the door",
        "Call it. Like so:\n\n    return the value of x",
        "Call it. Like so:\n```\nreturn the value of x",
        "It is so. Then x = the value of that",
        "See there. It is at https://example.com/the page of it",
        '{"a": "b. c", "d": the value that',
        "It is done.\n\nKind regards,\nJane",
        "It is. \u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002",
    ],
)
def test_other_endings_are_not_truncated(answer: str) -> None:
    assert reasons(Format(truncated=True), asked("x", answer)) == [""]
