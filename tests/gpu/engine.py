"""vLLM as serving sets it up, asked for the logprobs of given token ids: `python -m tests.gpu.engine REQUEST.json`.

The request names `base`, `device`, `dtype`, `rows` (token ids), `adapters` (folders by name; an empty one asks the
base) and `out`, where the logprobs of each row's tokens after the first are written, by adapter.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

MAX_RANK = 64
GPU_SHARE = 0.25
CPU_CACHE_BYTES = 64 << 20


def open_engine(request: dict[str, Any]) -> Any:
    """The engine of one base model, with room for one adapter at a time."""
    import torch
    import vllm
    from vllm.platforms import current_platform

    options: dict[str, Any] = {"gpu_memory_utilization": GPU_SHARE}
    if request["device"] == "cpu":
        # See `VllmEngine`: no compiler for the sampler, and vLLM's own CPU path of LoRA is wrong.
        torch._dynamo.config.disable = True
        current_platform.__class__.get_punica_wrapper = classmethod(
            lambda cls: "anneal.serving.adapters.cpu_lora.GroupedPunicaWrapper"
        )
        options = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enable_chunked_prefill": False}
    return vllm.LLM(
        model=request["base"],
        skip_tokenizer_init=True,
        dtype=request["dtype"],
        load_format="safetensors",
        enable_lora=True,
        max_loras=1,
        max_lora_rank=MAX_RANK,
        max_model_len=256,
        max_num_seqs=16,
        enforce_eager=True,
        seed=0,
        **options,
    )


def ask(engine: Any, rows: list[list[int]], adapter: str, slot: int) -> list[list[float]]:
    """Logprobs of each row's tokens after the first."""
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    lora = LoRARequest(lora_name=f"adapter-{slot}", lora_int_id=slot, lora_path=adapter) if adapter else None
    outputs = engine.generate(
        [{"prompt_token_ids": row} for row in rows],
        SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False),
        lora_request=lora,
        use_tqdm=False,
    )
    return [
        [float(choices[token].logprob) for token, choices in zip(row[1:], output.prompt_logprobs[1:], strict=True)]
        for row, output in zip(rows, outputs, strict=True)
    ]


def main() -> None:
    """Answer one request."""
    import vllm

    request = json.loads(Path(sys.argv[1]).read_text())
    start = time.monotonic()
    engine = open_engine(request)
    opened = time.monotonic()
    dtype = str(engine.llm_engine.model_config.dtype).removeprefix("torch.")
    said = {
        name: ask(engine, request["rows"][name], folder, slot)
        for slot, (name, folder) in enumerate(request["adapters"].items(), start=1)
    }
    facts = {"engine": f"vllm {vllm.__version__}", "dtype": dtype, "said": said}
    Path(request["out"]).write_text(json.dumps(facts))
    print(
        f"  {facts['engine']} in {dtype}: started in {opened - start:.0f} s, "
        f"{len(said)} adapters in {time.monotonic() - opened:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
