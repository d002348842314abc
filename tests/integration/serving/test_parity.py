"""Serving answers as training does: the same token ids from the template, the same log probabilities from PEFT."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anneal.v1 import inference_service_pb2 as pb
from tests.fixtures.serving import ServingWorld

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

TOLERANCE = 1e-5
CONVERSATIONS = [
    [("user", "What does shutil.copy do?"), ("assistant", "It copies a file.\n\nPermissions too.")],
    [("system", "Answer in JSON."), ("user", "Parameters of open?"), ("assistant", '["file", "mode"]')],
    [
        ("user", "def f(x):\n    return x"),
        ("assistant", "\n\n    leading white space, é and 漢字"),
        ("user", "go on"),
        ("assistant", "x" * 200),
    ],
]


def peft_scores(base: Path, adapter: Path | None, ids: list[int]) -> list[float]:
    """Log probabilities by plain PEFT, of every token but the first."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        logits_LV = model(torch.tensor([ids])).logits[0]
    logprobs_LV = torch.log_softmax(logits_LV[:-1].double(), dim=-1)
    scores: list[float] = logprobs_LV.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    return scores


def template_ids(base: Path, conversation: list[tuple[str, str]]) -> list[int]:
    """The whole conversation as training renders it, up to its last end of turn."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    messages = [{"role": role, "content": content} for role, content in conversation]
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    return ids[: len(ids) - ids[::-1].index(tokenizer.eos_token_id)]


@pytest.mark.parametrize("adapter", [None, 0, 1, 2])
async def test_token_ids_are_equal_and_log_probabilities_agree(
    serving_world: ServingWorld, adapter: int | None
) -> None:
    files = serving_world.files
    for conversation in CONVERSATIONS:
        *context, (_, answer) = conversation
        messages = [pb.ChatMessage(role=role, content=content) for role, content in context]
        scored = await serving_world.inference.Score(
            pb.ScoreRequest(
                target=serving_world.target(adapter),
                chat=pb.ChatContext(messages=messages),
                continuation=answer,
                include_context=True,
            )
        )
        assert list(scored.token_ids) == await asyncio.to_thread(template_ids, files.base, conversation)
        folder = None if adapter is None else files.adapters[adapter]
        expected = await asyncio.to_thread(peft_scores, files.base, folder, list(scored.token_ids))
        differences = [abs(t.logprob - e) for t, e in zip(scored.tokens[1:], expected, strict=True)]
        assert max(differences) <= TOLERANCE
