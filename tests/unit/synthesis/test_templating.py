from __future__ import annotations

import pytest

from anneal.synthesis.domain.templating import MAX_TEMPLATE_CHARACTERS, BadTemplate, Prompt


def test_fields_and_filters_shape_the_text() -> None:
    prompt = Prompt("{{ signature }} | {{ body | first_sentence }} | {{ params | json }}")
    fields = {"signature": "f(a)", "body": "Do it, e.g. now. Or later.", "params": ["a", "\u00e9<'"]}
    assert prompt.render(fields) == 'f(a) | Do it, e.g. now. | ["a", "\u00e9<\'"]'


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(BadTemplate, match=r"^line 3: ") as caught:
        Prompt("one\ntwo\n{{ name ")
    assert caught.value.line == 3


def test_an_unknown_filter_names_its_line() -> None:
    with pytest.raises(BadTemplate, match=r"line 2: No filter named 'shell'"):
        Prompt("one\n{{ name | shell }}")


def test_an_unknown_field_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(BadTemplate, match=r"unknown field nmae; there are: .*name"):
        Prompt("{{ nmae }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.__class__ }}",
        "{{ name * 9999999 }}",
        "{{ name + name }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ 9 ** 999999999 }}",
        "{{ row.missing }}",
        "{% for sign in name %}{{ sign }}{% endfor %}",
        "{% for one in row.many %}{{ one }}{% endfor %}",
        "{{ row.long | replace('', row.long) }}",
        "{{ row.many | join(row.long) }}",
    ],
)
def test_templates_can_neither_blow_up_nor_reach_inside(source: str) -> None:
    with pytest.raises(BadTemplate):
        Prompt(source).render({"name": "n", "row": {"long": "x" * 1_000, "many": [1] * 1_001}})


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.upper() }}",
        "{{ name.format(1) }}",
        "{{ name ~ name }}",
        "{% set a = name %}{{ a }}",
        "{% macro m() %}x{% endmacro %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% filter upper %}x{% endfilter %}",
        "{% for a in params %}{% for b in params %}x{% endfor %}{% endfor %}",
        "{% for a in params recursive %}x{% endfor %}",
    ],
)
def test_what_only_programs_need_is_refused_at_once_with_its_line(source: str) -> None:
    with pytest.raises(BadTemplate, match=r"^line 2: "):
        Prompt("\n" + source)


def test_a_loop_runs_over_a_list_and_a_condition_chooses() -> None:
    prompt = Prompt("{% for p in params %}{{ p }}{% if not loop.last %}, {% endif %}{% endfor %}")
    assert prompt.render({"params": ["a", "b"]}) == "a, b"


@pytest.mark.parametrize("name", ["range", "lipsum", "cycler", "namespace", "joiner", "dict"])
def test_the_usual_globals_are_gone(name: str) -> None:
    with pytest.raises(BadTemplate, match="unknown field"):
        Prompt(f"{{{{ {name} }}}}")


def test_endless_output_stops() -> None:
    source = "{% for one in params %}{{ body }}{% endfor %}"
    with pytest.raises(BadTemplate, match="characters"):
        Prompt(source).render({"params": ["p"] * 1_000, "body": "x" * 1_000})


def test_a_template_has_a_longest_length() -> None:
    Prompt("x" * MAX_TEMPLATE_CHARACTERS)
    with pytest.raises(BadTemplate, match="at most"):
        Prompt("x" * (MAX_TEMPLATE_CHARACTERS + 1))
