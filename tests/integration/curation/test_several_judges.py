from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response

from anneal.curation.adapters.judges import scorer_of
from anneal.curation.adapters.judges.panel import Patience
from anneal.curation.domain.judges import Asking, Judge
from anneal.curation.domain.scores import scored
from anneal.curation.domain.steps.base import Scores
from anneal.curation.domain.steps.llm_jury import LlmJury, LlmJurying
from anneal.curation.domain.steps.pairwise_judge import PairwiseJudge, PairwiseJudging
from anneal.curation.settings import JudgeOptions
from anneal.kit.records import conversation
from tests.fixtures.openai_server import Answer, OpenAIServer, completion, failure, openai_server
from tests.integration.curation.judging import Counts, graded, judge, panel, shown, values
from tests.unit.curation.rows import Row, asked, batch_of, said


def jury_says(grades: dict[str, int | None], folder: Path, *rows: Row, **step: Any) -> Scores:
    """What a jury says whose members, named by their grades, answer so or fail."""

    def answer(body: dict[str, Any], _: int) -> Response:
        grade = grades[body["model"]]
        return failure(500) if grade is None else graded(grade, f"{body['model']} says so")

    with openai_server(answer) as server:
        jury = LlmJury(judges=tuple(judge(server, model) for model in grades), **step)
        return LlmJurying(step=jury, asker=panel(folder)).score(batch_of(rows))


def test_a_jury_gives_mean_median_spread_and_every_grade(tmp_path: Path) -> None:
    found = jury_says({"a": 1, "b": 2, "c": 4}, tmp_path, asked("Q?", "A."))
    assert values(found) == {
        "llm_jury": [pytest.approx(7 / 3)],
        "llm_jury_median": [2.0],
        "llm_jury_spread": [3.0],
        "llm_jury_judges": [3.0],
        "llm_jury/a": [1.0],
        "llm_jury/b": [2.0],
        "llm_jury/c": [4.0],
    }
    assert found.causes == [None]
    assert found.notes["feedback/b"] == ["b says so"]
    assert found.notes["unscored/b"] == [None]


@pytest.mark.parametrize(
    ("grades", "quorum", "mean"),
    [
        ({"a": 1, "b": 2, "c": None}, None, 1.5),  # 2 of 3 are more than half
        ({"a": 1, "b": None, "c": None}, None, None),
        ({"a": 1, "b": 2, "c": None, "d": None}, None, None),  # 2 of 4 are not
        ({"a": 1, "b": None, "c": None}, 1, 1.0),
        ({"a": 1, "b": 2, "c": None}, 3, None),
    ],
)
def test_a_quorum_makes_a_score(
    tmp_path: Path, grades: dict[str, int | None], quorum: int | None, mean: float | None
) -> None:
    found = jury_says(grades, tmp_path, asked("Q?", "A."), quorum=quorum)
    answered = [grade for grade in grades.values() if grade is not None]
    assert values(found)["llm_jury"] == [mean]
    assert values(found)["llm_jury_judges"] == [float(len(answered))]
    assert values(found)["llm_jury/a"] == [1.0]
    assert values(found)["llm_jury/c"] == [None]
    assert found.causes == [None if mean is not None else "no_quorum"]
    assert found.notes["unscored/c"] == ["judge_failed"]


def test_a_row_without_an_answer_is_not_the_jurys_fault(tmp_path: Path) -> None:
    found = jury_says(
        {"a": 1, "b": 2}, tmp_path, said(("user", "Q?")), asked("Q?", "A" * 50), asking=Asking(max_characters=9)
    )
    assert found.causes == ["no_answer", "too_long"]


def test_one_judge_that_is_away_does_not_silence_the_others(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = Judge(base_url=f"http://127.0.0.1:{free.getsockname()[1]}/v1", model="away")
    rows = [asked(f"Q{n}?", "A.") for n in range(30)]
    with openai_server(lambda *_: graded(3)) as server:
        jury = LlmJury(judges=(judge(server, "a"), away, judge(server, "b")), asking=Asking(concurrency=2))
        asker = panel(tmp_path, patience=Patience(timeout_s=2, attempts=1))
        found = LlmJurying(step=jury, asker=asker).score(batch_of(rows))
    assert values(found)["llm_jury"] == [3.0] * 30
    assert set(found.notes["unscored/away"]) == {"judge_unreachable", "judge_down"}


def pair(answer: str, alternative: Any, key: str = "alternative") -> Row:
    turns = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": answer}]
    return conversation(turns, source="a", meta={key: alternative} if alternative is not None else {})


def longer(body: dict[str, Any], _: int) -> Response:
    """The longer answer wins, wherever it stands."""
    a, b = shown(body, "answer_A"), shown(body, "answer_B")
    winner = "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
    return completion(json.dumps({"feedback": f"{winner}!", "winner": winner}))


def compare(answer: Answer, folder: Path, *rows: Row, **step: Any) -> tuple[Scores, OpenAIServer]:
    with openai_server(answer) as server:
        judging = PairwiseJudging(step=PairwiseJudge(judge=judge(server), **step), asker=panel(folder))
        return judging.score(batch_of(rows)), server


def test_an_answer_wins_loses_and_ties_in_both_orders(tmp_path: Path) -> None:
    rows = [pair("long", "s"), pair("s", "long"), pair("same", "size"), pair("long", ["s", "longer", "size", "x"])]
    found, server = compare(longer, tmp_path, *rows)
    assert values(found) == {"win_rate": [1.0, 0.0, 0.5, 0.625]}
    assert found.notes["position_disagreements"] == ["0", "0", "0", "0"]
    assert found.notes["feedback"][0] == "A!\nB!"
    assert len(server.requests) == 2 * 7 - 2  # the first pair of the last row is that of the first row
    assert {(shown(one, "answer_A"), shown(one, "answer_B")) for one in server.requests} >= {
        ("long", "s"),
        ("s", "long"),
    }


@pytest.mark.parametrize("winner", ["A", "B"])
def test_a_verdict_that_turns_with_the_order_is_a_tie_and_is_counted(tmp_path: Path, winner: str) -> None:
    found, _ = compare(lambda *_: completion(json.dumps({"winner": winner})), tmp_path, pair("one", ["two", "three"]))
    assert values(found) == {"win_rate": [0.5]}
    assert found.notes["position_disagreements"] == ["2"]


def test_a_win_beside_a_tie_is_a_tie_that_turned(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: int) -> Response:
        return completion(json.dumps({"winner": "A" if shown(body, "answer_A") == "one" else "tie"}))

    found, _ = compare(answer, tmp_path, pair("one", "two"))
    assert (values(found), found.notes["position_disagreements"]) == ({"win_rate": [0.5]}, ["1"])


@pytest.mark.parametrize(
    "alternative", [None, "", " ", 7, [], ["a", ""], ["a", 7], {"role": "assistant"}, [str(n) for n in range(17)]]
)
def test_without_another_answer_there_is_nothing_to_compare(tmp_path: Path, alternative: Any) -> None:
    found, server = compare(longer, tmp_path, pair("one", alternative))
    assert (values(found), found.causes) == ({"win_rate": [None]}, ["no_alternative"])
    assert found.notes["position_disagreements"] == [None]
    assert server.requests == []


def test_sixteen_other_answers_are_compared_under_any_key(tmp_path: Path) -> None:
    row = pair("long", ["s" + "x" * (n % 2) for n in range(16)], key="rejected")
    found, _ = compare(longer, tmp_path, row, alternative_key="rejected")
    assert values(found) == {"win_rate": [1.0]}


def test_room_is_for_the_row_and_one_other_answer(tmp_path: Path) -> None:
    room = len("[user]\nQ?") + len("long") + 3
    found, _ = compare(
        longer, tmp_path, pair("long", ["abc", "ab"]), pair("long", ["abcd"]), asking=Asking(max_characters=room)
    )
    assert found.causes == [None, "too_long"]


@pytest.mark.parametrize(
    "text", ["nonsense", '{"winner": "C"}', '{"winner": 1}', '{"winner": ["A"]}', '{"feedback": "A"}']
)
def test_a_pair_heard_in_one_order_only_does_not_count(tmp_path: Path, text: str) -> None:
    def answer(body: dict[str, Any], same: int) -> Response:
        return completion(text) if shown(body, "answer_B") in ("long", "odd") else longer(body, same)

    found, _ = compare(answer, tmp_path, pair("long", ["s", "shorter"]), pair("odd", ["x"]))
    assert values(found) == {"win_rate": [None, None]}
    assert found.causes == ["malformed_answer"] * 2


def test_the_pairs_that_were_heard_count(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], same: int) -> Response:
        return failure(500) if "bad" in (shown(body, "answer_A"), shown(body, "answer_B")) else longer(body, same)

    found, _ = compare(answer, tmp_path, pair("long", ["bad", "s"]))
    assert (values(found), found.causes) == ({"win_rate": [1.0]}, [None])


def test_half_characters_in_another_answer_are_no_obstacle(tmp_path: Path) -> None:
    row = pair("long", "s")
    row["meta"] = '{"alternative": "\\ud83d"}'
    found, _ = compare(longer, tmp_path, row)
    assert values(found) == {"win_rate": [1.0]}


def test_a_scorer_from_its_settings_scores_counts_and_keeps_its_answers(tmp_path: Path) -> None:
    batch = batch_of([pair("long", "s"), pair("one", "two"), pair("alone", None)])
    counts = Counts()
    with openai_server(
        lambda body, same: longer(body, same) if "long" in str(body) else completion('{"winner": "A"}')
    ) as server:
        for _ in range(2):
            step = PairwiseJudge(judge=judge(server))
            scorer = scorer_of(step, tmp_path, JudgeOptions(timeout_s=5), check=lambda: None, count=counts)
            made = scored(batch, scorer.score(batch), scorer.name)
            statistics = scorer.finish()
    assert statistics == {
        "scorer": "win_rate",
        "rows": 3,
        "scored": 2,
        "unscored": {"no_alternative": 1},
        "position_disagreements": 1,
    }
    assert [dict(row["scores"]) for row in made.to_pylist()] == [{"win_rate": 1.0}, {"win_rate": 0.5}, {}]
    assert json.loads(made.to_pylist()[2]["meta"]) == {"scoring": {"win_rate": {"unscored": "no_alternative"}}}
    assert made.column("id").equals(batch.column("id"))
    assert counts.answers == {"calls": 4, "reused": 4}
    assert len(server.requests) == 4
    assert (tmp_path / "judges.jsonl").exists()
