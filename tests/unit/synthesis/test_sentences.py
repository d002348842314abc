from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.synthesis.domain.sentences import cut, first_sentence, one_line, sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Return x. Then y.", "Return x."),
        ("Raised on a socket (e.g. a pipe) that blocks. Else not.", "Raised on a socket (e.g. a pipe) that blocks."),
        ("A value, i.e. one of two. More.", "A value, i.e. one of two."),
        ("An e.g. Capital stays inside. More.", "An e.g. Capital stays inside."),
        ("Numbers, strings, etc. are kept. More.", "Numbers, strings, etc. are kept."),
        ("Numbers, strings, etc. The rest goes.", "Numbers, strings, etc."),
        ("New in Python 3.11. It is fast.", "New in Python 3.11."),
        ("Since 3.11.2 this works. Yes.", "Since 3.11.2 this works."),
        ("Takes a, b, ... and returns c. Done.", "Takes a, b, ... and returns c."),
        ("It goes on... but not for long. End.", "It goes on... but not for long."),
        ("It goes on... Then it ends.", "It goes on..."),
        ("Calls `f. g` once. Twice.", "Calls `f. g` once."),
        ("Written in C. The rest is Python.", "Written in C."),
        ("Named after Guido V. Rossum himself. Yes.", "Named after Guido V. Rossum himself."),
        ("Set the cursor. visibility can be 0.", "Set the cursor."),
        ("The characters . and / are kept. More.", "The characters . and / are kept."),
        ("Use \u201c.\u201d if it stands alone. More.", "Use \u201c.\u201d if it stands alone."),
        ("Is it so? Yes.", "Is it so?"),
        ("Matches ? and ! as they are. More.", "Matches ? and ! as they are."),
        ("He said \u201cno.\u201d Then he left.", "He said \u201cno.\u201d"),
        ("A note (see above.) Next.", "A note (see above.)"),
        ("An interval [0, 1) is open. Next.", "An interval [0, 1) is open."),
        ("See No. 5 for more. Next.", "See No. 5 for more."),
        ("The answer is no. 5 is too many.", "The answer is no. 5 is too many."),
        ("Wrapped\n  over lines. Next.", "Wrapped over lines."),
        ("Only one sentence.", "Only one sentence."),
    ],
)
def test_the_first_sentence_ends_where_a_reader_ends_it(text: str, first: str) -> None:
    assert first_sentence(text) == first


@pytest.mark.parametrize("text", ["", "  \n ", "Has the following keys:\n\nA key. Another.", "no mark at all"])
def test_a_first_paragraph_without_a_whole_sentence_has_no_first_sentence(text: str) -> None:
    assert first_sentence(text) == ""


def test_a_paragraph_ends_a_sentence_even_without_a_mark() -> None:
    assert sentences("One. Two\n\nThree.") == ["One.", "Two", "Three."]


def test_cut_keeps_whole_sentences_up_to_the_limit() -> None:
    text = "One two. Three four. Five."
    assert cut(text, len("One two. Three four.")) == "One two. Three four."
    assert cut(text, len("One two. Three four.") - 1) == "One two."
    assert cut(text, len(text)) == text


def test_cut_falls_back_to_whole_words_and_then_to_characters() -> None:
    assert cut("alpha beta gamma", 10) == "alpha beta"
    assert cut("alpha beta gamma", 9) == "alpha"
    assert cut("alphabeta", 4) == "alph"


@given(st.text(alphabet='aB .!?()`[]\u2026"e.g', max_size=80))
def test_no_character_is_lost_or_doubled(text: str) -> None:
    joined = "".join(split_sentences(text)).replace(" ", "")
    assert joined == one_line(text).replace(" ", "")


@given(st.text(alphabet="aB .!?()`", min_size=1, max_size=80), st.integers(1, 90))
def test_cut_is_a_prefix_within_the_limit(text: str, limit: int) -> None:
    short = cut(text, limit)
    assert len(short) <= limit
    assert one_line(text).startswith(short)
