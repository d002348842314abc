"""The real engine agrees with the rules: what they accept it computes as PEFT does, what they refuse it refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.base_models import write_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]
TOLERANCE = 1e-5
IDS = [5, 17, 40, 41, 99, 120, 7, 33, 250, 8, 200, 64]
OPTIONS: dict[str, Any] = {
    "digest": "sha256:base",
    "max_adapters": 1,
    "max_rank": 8,
    "max_sequences": 2,
    "max_batched_tokens": 256,
    "context_length": 0,
    "kv_cache_bytes": 32 << 20,
    "dtype": "auto",
    "eager": True,
    "tensor_parallel": 1,
}


def write_adapter(base: Path, folder: Path) -> dict[str, list[float]]:
    """An adapter as training writes it; returns the log probabilities of base and adapter by PEFT."""
    import torch

    from anneal.training.domain.base_model import open_base_model
    from anneal.training.domain.methods.lora import Lora
    from anneal.training.domain.spec import LoraOptions, TrainingSpec

    method = Lora(TrainingSpec(lora=LoraOptions(rank=8, alpha=16)))
    model = method.wrap(open_base_model(base).load(torch.float32)).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir()
    method.save(model, folder, base_name="sha256:" + "0" * 64)

    def logprobs() -> list[float]:
        with torch.no_grad():
            all_of = model(torch.tensor([IDS])).logits[0, :-1].log_softmax(-1)
        return [float(x) for x in all_of.gather(1, torch.tensor(IDS[1:])[:, None])[:, 0]]

    with_adapter = logprobs()
    with model.disable_adapter():
        return {"base": logprobs(), "adapter": with_adapter}


async def _score(base: Path, adapter: Path) -> dict[str, list[float]]:
    from anneal.serving.adapters.vllm_engine import VllmEngine
    from anneal.serving.domain.answers import AdapterRef, Continuation, TokenPrompt

    engine = VllmEngine({**OPTIONS, "base": str(base)})
    loaded = AdapterRef("sha256:adapter", 1, str(adapter))
    await engine.load(loaded)
    found = {}
    for name, used in (("base", None), ("adapter", loaded)):
        scored = await engine.score(TokenPrompt(tuple(IDS)), Continuation(), used, request_id=name)
        found[name] = [float(token.logprob or 0.0) for token in scored.tokens[1:]]
    engine.shutdown()
    return found


def in_an_engine(base: Path, adapter: Path) -> subprocess.CompletedProcess[str]:
    """Score with the real engine, in a process of its own as serving does."""
    command = [sys.executable, "-m", "tests.integration.serving.test_what_is_served", str(base), str(adapter)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", ["qwen2-moe", "gemma3-text"])
def test_what_is_accepted_is_computed_as_training_does(name: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", name)
    expected = write_adapter(base, tmp_path / "adapter")
    done = in_an_engine(base, tmp_path / "adapter")
    assert done.returncode == 0, done.stderr[-3000:]
    scored = json.loads(done.stdout.splitlines()[-1])
    for kind, logprobs in expected.items():
        assert max(abs(a - b) for a, b in zip(scored[kind], logprobs, strict=True)) <= TOLERANCE, kind
    effect = max(abs(a - b) for a, b in zip(scored["adapter"], scored["base"], strict=True))
    assert effect > 100 * TOLERANCE, "the adapter changes the answers"


def test_what_is_refused_ends_the_engine(tmp_path: Path) -> None:
    done = in_an_engine(write_model(tmp_path / "base", "gpt2"), tmp_path / "adapter")
    assert done.returncode != 0
    assert "does not support LoRA" in done.stdout + done.stderr


if __name__ == "__main__":
    scores = asyncio.run(_score(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.stdout.write("\n" + json.dumps(scores) + "\n")
