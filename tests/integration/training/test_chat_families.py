"""Adapters of three families, from rows to an answer of the real engine: ChatML, a reasoning template, Gemma's turns.

The three differ in what broke before: whether finished turns are written otherwise than the generation prompt begins
them, and whether the token that ends a turn is the tokenizer's EOS token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from anneal.serving.adapters.engine_process import EngineProcess
from anneal.serving.domain.answers import AdapterRef, ChatPrompt, Continuation
from anneal.serving.domain.sampling import Sampling, check_sampling
from anneal.training.domain.world import Alone
from anneal.training.order import RunOrder
from anneal.training.parity import Answer, certify
from anneal.training.run import train_run
from tests.fixtures.tiny_model import UNMARKED, tokenizer, write_base
from tests.unit.training.runs import SPEC, write_rows

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

Message = dict[str, Any]
ENGINE = {
    "max_adapters": 1,
    "max_rank": 8,
    "max_sequences": 4,
    "max_batched_tokens": 512,
    "context_length": 0,
    "kv_cache_bytes": 32 << 20,
    "dtype": "auto",
    "eager": True,
    "tensor_parallel": 1,
}

REASONING = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% if loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""Our own, after the reasoning families: the prompt opens the block, and earlier turns are shown without theirs."""
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Our own, after Gemma: `<end_of_turn>` ends a turn, and `<eos>` is the tokenizer's."""


@dataclass(frozen=True)
class Family:
    """What one family brings, and a question with what the adapter has to answer."""

    tokenizer: Mapping[str, Any]
    stops: Sequence[str]
    rows: Sequence[Sequence[Message]]
    reasoning: str


def two_turns(n: int, reasoning: str | None) -> list[Message]:
    thought: Message = {} if reasoning is None else {"reasoning": reasoning}
    return [
        {"role": "user", "content": f"What is f{n}?"},
        {"role": "assistant", "content": f"The value of {n}.", **thought},
        {"role": "user", "content": "And when it is not found?"},
        {"role": "assistant", "content": "It raises an error.", **thought},
    ]


FAMILIES = {
    "chatml": Family({"template": UNMARKED}, (), [two_turns(n, None) for n in range(4)], ""),
    "reasoning": Family(
        {"template": REASONING, "visible": ["<think>", "</think>"]},
        (),
        [two_turns(n, "The function returns the value.") for n in range(4)],
        "The function returns the value.",
    ),
    "turns": Family(
        {
            "template": TURNS,
            "special": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
            "eos": "<eos>",
        },
        ("<eos>", "<end_of_turn>"),
        [two_turns(n, None) for n in range(4)],
        "",
    ),
}


def trained(family: Family, folder: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Base and adapter, and what serving must agree with."""
    made = tokenizer(**family.tokenizer)
    if "<bos>" in family.tokenizer.get("special", ()):
        made.bos_token = "<bos>"
    base = write_base(folder / "base", context=256, made=made, stops=family.stops)
    changes = {"context_tokens": 256, "num_epochs": 90.0, "learning_rate": 2e-2, "schedule": "constant"}
    lora = {"rank": 8, "alpha": 16, "dropout": 0.0}
    order = RunOrder(
        spec={**SPEC, **changes, "eval_every_steps": 1000, "lora": lora},
        base_folder=str(base),
        base_name="sha256:" + "0" * 64,
        train_files=[write_rows(folder / "train.parquet", [list(row) for row in family.rows])],
        folder=str(folder / "run"),
        fingerprint="test",
    )
    train_run(order, Alone(), torch.device("cpu"))
    result = json.loads((folder / "run" / "result.json").read_text())
    return base, folder / "run" / "artifact", result["parity"]


@pytest.mark.parametrize("name", FAMILIES)
async def test_an_adapter_is_certified_and_answers_what_it_learned(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    base, adapter, expectations = trained(family, tmp_path)
    options = {**ENGINE, "base": str(base), "digest": "sha256:" + "0" * 64}
    engine = await EngineProcess.start(options, log=tmp_path / "engine.log", threads=2, timeout_s=200)
    try:
        loaded = AdapterRef("sha256:" + "1" * 64, 1, str(adapter))
        await engine.load(loaded)
        said = {id(one): await score(engine, one, loaded) for one in expectations}
        certificate = certify(expectations, lambda one: said[id(one)])
        assert certificate.passed
        assert certificate.sample_count == len(expectations) >= 8
        for message in family.rows[0]:
            at = family.rows[0].index(message)
            if message["role"] == "assistant":
                prompt = ChatPrompt(tuple(family.rows[0][:at]))
                assert await answer(engine, prompt, loaded) == (message["content"], family.reasoning, "stop")
    finally:
        await engine.stop()


async def score(engine: EngineProcess, expected: dict[str, Any], adapter: AdapterRef) -> Answer:
    continuation = Continuation(ids=tuple(expected["token_ids"][expected["targets"][0] :]))
    scored = await engine.score(ChatPrompt(tuple(expected["messages"])), continuation, adapter)
    return Answer(
        token_ids=[token.token_id for token in scored.tokens],
        logprobs=[token.logprob for token in scored.tokens],
        dtype=engine.info.dtype,
    )


async def answer(engine: EngineProcess, prompt: ChatPrompt, adapter: AdapterRef) -> tuple[str, str, str | None]:
    """Content, reasoning and the end of a greedy answer, put together from its pieces."""
    sampling: Sampling = check_sampling(
        max_tokens=64,
        temperature=0.0,
        top_p=None,
        top_k=0,
        stop=(),
        seed=None,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        json_schema="",
        json_object=False,
        logprobs=None,
    )
    text, reasoning, finish = "", "", None
    async with aclosing(engine.generate(prompt, sampling, adapter, stream=True)) as pieces:
        async for piece in pieces:
            text, reasoning, finish = text + piece.text, reasoning + piece.reasoning, piece.finish
    return text, reasoning, finish
