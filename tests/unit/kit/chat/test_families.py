"""Every family of the table in `docs/chat-templates.md`: what it was, it still is."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.chat_template_utils as transformers_templates

from tests.fixtures.families import report
from tests.fixtures.families.cases import CASES
from tests.fixtures.families.oracle import chat_template, judge
from tests.fixtures.families.table import FAMILIES, Family

ROOT = Path(__file__).resolve().parents[4]
TRAINABLE = ("single turn", "multi turn")


def named(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_is_learned_is_what_serving_asks_for(family: Family) -> None:
    found = report.verdicts(family)
    assert {case: verdict.wrong for case, verdict in found.items() if verdict.wrong} == {}
    assert {case: found[case].refused for case in TRAINABLE if found[case].refused} == {}
    assert not [v.refused for v in found.values() if "INTERNAL" in v.refused]


def test_the_table_is_fresh_and_no_family_got_worse() -> None:
    committed, now = report.TABLE.read_text(encoding="utf-8"), report.page()
    assert report.worse(committed, now) == []
    assert committed == now, "docs/chat-templates.md is out of date: make chat-templates"


def test_a_family_that_got_worse_is_named() -> None:
    good = report.TABLE.read_text(encoding="utf-8")
    bad = good.replace("| Zephyr | own: `zephyr` | small | ok | ok |", "| Zephyr | own: `zephyr` | small | ok | 2 |")
    assert bad != good
    assert report.worse(good, bad) == ["Zephyr, multi turn"]
    gone = "\n".join(line for line in good.splitlines() if not line.startswith("| Zephyr |"))
    assert ("Zephyr, single turn") in report.worse(good, gone)


@pytest.mark.parametrize("name", ["Llama 3.2", "GPT-OSS", "SmolLM3", "Muse Glimmer"])
def test_the_day_of_today_is_in_no_prompt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = CASES["single turn"][0][:1]
    before = chat_template(named(name)).prompt_ids(messages)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls(2031, 5, 17, tzinfo=tz)

    monkeypatch.setattr(transformers_templates, "datetime", Later)
    template = chat_template(named(name))
    assert template.prompt_ids(messages) == before
    text = template.encoder._backend.decode(before, skip_special_tokens=False)
    assert "2031" not in text


PRINT = """
import json, sys
from tests.fixtures.families.cases import CASES
from tests.fixtures.families.oracle import chat_template
from tests.fixtures.families.table import FAMILIES
names = json.loads(sys.argv[1])
found = {}
for family in FAMILIES:
    if family.name in names:
        messages, tools = CASES["tool call and result"]
        turn = chat_template(family).turn(messages, 3, tools)
        found[family.name] = [turn.prompt_ids, turn.target_ids, sorted(chat_template(family).stop_ids)]
print(json.dumps(found))
"""
DETERMINISTIC = ["Gemma 4, revision 5", "GPT-OSS", "Granite", "LFM2.5", "Nemotron 3 Nano", "Muse Glimmer"]


def test_another_process_renders_the_same() -> None:
    found = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT, json.dumps(DETERMINISTIC)],
            env={"PYTHONPATH": f"{ROOT}/services:{ROOT}", "PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    messages, tools = CASES["tool call and result"]
    for name in DETERMINISTIC:
        turn = chat_template(named(name)).turn(messages, 3, tools)
        assert found[0][name][:2] == [turn.prompt_ids, turn.target_ids]


def test_the_oracle_sees_a_wrong_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test cannot see it does not guard: a stop that is left out, and a prompt of another template."""
    from anneal.kit.chat.conversation import Conversation, Turn

    family, (messages, tools) = named("ChatML"), CASES["single turn"]
    right = Conversation.turn

    def short(self: Conversation, index: int, *, strict: bool = True) -> Turn:
        turn = right(self, index, strict=strict)
        return Turn(turn.index, turn.prompt_ids, turn.target_ids[:-1])

    def other(self: Conversation, index: int, *, strict: bool = True) -> Turn:
        turn = right(self, index, strict=strict)
        return Turn(turn.index, turn.prompt_ids[1:], turn.target_ids)

    for wrong, said in ((short, "is learned instead of"), (other, "another prompt than serving sends")):
        monkeypatch.setattr(Conversation, "turn", wrong)
        assert said in " ".join(judge(family, messages, tools).wrong)
