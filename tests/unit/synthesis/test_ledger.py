from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.synthesis.domain.ledger import BudgetSpent, Ledger
from tests.unit.synthesis.teachers import MemoryJournal, reply


async def test_a_settled_call_costs_what_was_reported() -> None:
    ledger = Ledger(100, MemoryJournal())
    await (await ledger.reserve("k", 100)).settle(reply())
    assert (ledger.spending.spent_tokens, ledger.spending.assumed_tokens, ledger.spending.calls) == (50, 0, 1)


async def test_a_call_that_reports_nothing_costs_its_whole_price() -> None:
    ledger = Ledger(100, MemoryJournal())
    await (await ledger.reserve("k", 80)).settle(reply(prompt=None))
    assert (ledger.spending.spent_tokens, ledger.spending.assumed_tokens) == (80, 80)


async def test_a_lost_call_costs_its_whole_price_and_a_refused_one_nothing() -> None:
    ledger = Ledger(100, MemoryJournal())
    await (await ledger.reserve("k", 60)).lose()
    await (await ledger.reserve("k", 40)).give_back()
    assert ledger.spending.spent_tokens == ledger.spending.assumed_tokens == 60
    assert ledger.spending.failed_attempts == 2


async def test_an_endpoint_that_takes_more_than_was_set_aside_gets_more_set_aside() -> None:
    ledger = Ledger(200, MemoryJournal())
    await (await ledger.reserve("a", 40)).settle(reply())  # it took 50
    with pytest.raises(BudgetSpent):
        await ledger.reserve("b", 141)  # 150 are left, 151 would be set aside
    await (await ledger.reserve("b", 140)).settle(reply(prompt=130))
    assert ledger.spending.spent_tokens == 200


async def test_the_last_token_can_be_spent_and_not_one_more() -> None:
    ledger = Ledger(100, MemoryJournal())
    await (await ledger.reserve("a", 100)).give_back()
    with pytest.raises(BudgetSpent):
        await ledger.reserve("b", 101)


async def test_a_call_waits_for_those_under_way_before_it_gives_up() -> None:
    ledger = Ledger(100, MemoryJournal())
    first = await ledger.reserve("a", 90)
    second = asyncio.create_task(ledger.reserve("b", 50))
    await asyncio.sleep(0)
    assert not second.done()
    await first.settle(reply())
    await second
    third = asyncio.create_task(ledger.reserve("c", 1))
    await asyncio.sleep(0)
    await (await asyncio.wait_for(second, 1)).lose()
    with pytest.raises(BudgetSpent):
        await third


async def test_after_a_kill_answers_are_known_and_open_calls_are_paid_for() -> None:
    journal = MemoryJournal()
    ledger = Ledger(1_000, journal)
    await (await ledger.reserve("a", 100)).settle(reply(("q", "a")))
    await ledger.reserve("b", 200)
    again = Ledger(1_000, journal.copy())
    assert again.answered("a") == reply(("q", "a"))
    assert again.answered("b") is None
    assert (again.spending.spent_tokens, again.spending.assumed_tokens, again.spending.reused) == (250, 200, 1)


async def test_a_second_restart_pays_an_open_call_only_once() -> None:
    journal = MemoryJournal()
    await Ledger(1_000, journal).reserve("a", 200)
    once = journal.copy()
    Ledger(1_000, once)
    assert Ledger(1_000, once.copy()).spending.spent_tokens == 200


async def test_numbers_go_on_after_a_restart() -> None:
    journal = MemoryJournal()
    await (await Ledger(1_000, journal).reserve("a", 10)).give_back()
    await Ledger(1_000, journal).reserve("b", 10)
    assert [event["number"] for event in journal.events] == [1, 1, 2]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(1, 120), st.sampled_from(["settle", "lose", "give_back", "kill"])), max_size=12),
)
def test_spent_tokens_never_pass_the_budget(budget: int, steps: list[tuple[int, str]]) -> None:
    async def play() -> None:
        journal = MemoryJournal()
        ledger = Ledger(budget, journal)
        for number, (price, end) in enumerate(steps):
            try:
                held = await ledger.reserve(str(number), price)
            except BudgetSpent:
                continue
            if end == "kill":
                ledger = Ledger(budget, journal)
            elif end == "settle":
                await held.settle(reply(prompt=0, completion_tokens=price))
            elif end == "lose":
                await held.lose()
            else:
                await held.give_back()
            assert ledger.spending.spent_tokens <= budget
        assert Ledger(budget, journal.copy()).spending.spent_tokens == ledger.spending.spent_tokens

    asyncio.run(play())
