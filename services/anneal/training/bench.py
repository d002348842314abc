"""`python -m anneal.training.bench`: what the loop's own work costs on this machine, without Ray or any service.

For `lora` and `full`: forward, backward and optimizer step in tokens per second, peak memory, and the share of the
device's measured matrix-product peak; and that samples packed together give the logits they give alone. Each method is
measured in a process of its own, so that its peak memory is its own. Base and passes have the types of a real run in
that precision. Needs only torch, transformers, peft, safetensors and pyarrow.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from anneal.kit.processor import processor
from anneal.training import measure
from anneal.training.domain.checks import check_packing
from anneal.training.domain.errors import TrainingRefused
from anneal.training.domain.loop import Loop, StepDone, Validated, autocast
from anneal.training.domain.methods import METHODS, base_dtype
from anneal.training.domain.packing import collate, pack
from anneal.training.domain.plan import memory_bytes
from anneal.training.domain.samples import Sample
from anneal.training.domain.spec import LoraOptions, TrainingSpec
from anneal.training.domain.world import Alone


class MethodFailed(Exception):
    """The process of a method ended without numbers; it has said why."""


def untrained(told: argparse.Namespace, dtype: torch.dtype, device: torch.device) -> Any:
    """A Llama of the shape asked for, with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=told.vocabulary,
        hidden_size=told.hidden,
        intermediate_size=4 * told.hidden,
        num_hidden_layers=told.layers,
        num_attention_heads=max(1, told.hidden // 32),
        num_key_value_heads=max(1, told.hidden // 32),
        max_position_embeddings=told.context,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype).to(device)


def made_up(told: argparse.Namespace, num_rows: int) -> list[list[Sample]]:
    """Packed rows of samples of a quarter to three quarters of the context, half of each to be learned."""
    chance = random.Random(0)
    samples: list[Sample] = []
    while sum(len(s) for s in samples) < num_rows * told.context:
        length = chance.randrange(told.context // 4, 3 * told.context // 4)
        ids = [chance.randrange(told.vocabulary) for _ in range(length)]
        samples.append(Sample(ids, [i >= length // 2 for i in range(length)], f"row-{len(samples)}"))
    return pack(samples, context_tokens=told.context)[:num_rows]


def measure_method(name: str, told: argparse.Namespace, device: torch.device, peak: float) -> dict[str, Any]:
    """The numbers of one method.

    Args:
        name: its key in `METHODS`.
        told: shape, sizes and precision.
        device: where to compute.
        peak: what its matrix products reach, in FLOP/s.

    Raises:
        TrainingRefused: samples packed together see each other, or the loss is not finite.
    """
    spec = TrainingSpec(
        method=name,
        context_tokens=told.context,
        rows_per_forward=told.rows,
        forwards_per_step=1,
        max_steps=told.steps,
        precision=told.dtype,
        lora=LoraOptions(rank=8, alpha=16),
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = METHODS[name](spec).wrap(untrained(told, base_dtype(spec), device))
    rows = made_up(told, told.rows * told.steps)
    leak = check_packing(model, rows, pad_id=0)
    batch = collate(rows[: told.rows], pad_id=0).to(device)
    tokens = sum(len(s) for row in rows[: told.rows] for s in row)

    def forward() -> Any:
        with torch.no_grad(), autocast(spec, device):
            return model(input_ids=batch.token_ids_RL, position_ids=batch.position_ids_RL, use_cache=False).logits

    forward_s = measure.seconds(forward, device)
    both = measure.tokens_per_second(model, spec, rows[: told.rows], 0, device)
    done: list[tuple[float, int]] = []

    def report(event: StepDone | Validated) -> None:
        if isinstance(event, StepDone):
            done.append((time.perf_counter(), event.num_tokens))

    Loop(model=model, spec=spec, rows=rows, validation=[], pad_id=0, world=Alone(), report=report, device=device).run()
    step = sum(n for _, n in done[1:]) / (done[-1][0] - done[0][0])
    parameters = [(p.numel(), p.requires_grad) for p in model.parameters()]
    total, trainable = sum(n for n, _ in parameters), sum(n for n, trains in parameters if trains)
    # Forward 2 FLOPs per parameter and token; backward 2 through activations, and 2 through what is trained.
    return {
        "method": name,
        "parameters": total,
        "trainable": trainable,
        "forward_tokens_per_s": tokens / forward_s,
        "forward_backward_tokens_per_s": both,
        "step_tokens_per_s": step,
        "share_of_peak": step * (4 * total + 2 * trainable) / peak,
        "peak_memory_bytes": measure.peak_memory_bytes(device),
        "planned_memory_bytes": memory_bytes(spec, model.config, total, trainable),
        "packed_minus_alone": leak,
    }


def measure_apart(name: str, argv: Sequence[str], peak: float) -> dict[str, Any]:
    """The numbers of one method from a process of its own.

    Raises:
        MethodFailed: it gave none.
    """
    command = [sys.executable, "-m", "anneal.training.bench", *argv, "--method", name, "--peak", repr(peak), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise MethodFailed
    found: dict[str, Any] = json.loads(done.stdout)["methods"][0]
    return found


def _told(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m anneal.training.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--rows", type=int, default=4, help="packed rows in a forward pass")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--method", choices=sorted(METHODS), help="only this one, in this very process")
    parser.add_argument("--peak", type=float, help="FLOP/s of the device's matrix products; measured when not given")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    told = parser.parse_args(argv)
    if told.steps < 2:
        parser.error("--steps: at least 2, for the first one only warms up")
    return told


def main(argv: Sequence[str]) -> int:
    """Measure and print; 1 when a method cannot be measured, such as when packed samples see each other."""
    told = _told(argv)
    device = torch.device(told.device)
    peak = told.peak or measure.matmul_flops(device, getattr(torch, told.dtype))
    try:
        if told.method:
            found = [measure_method(told.method, told, device, peak)]
        else:
            found = [measure_apart(name, argv, peak) for name in sorted(METHODS)]
    except TrainingRefused as refused:
        sys.stderr.write(f"bench: {told.method}: {refused} ({refused.reason})\n")
        return 1
    except MethodFailed:
        return 1
    report = {"device": _name(device), "dtype": told.dtype, "matmul_flops": peak, "methods": found}
    sys.stdout.write(json.dumps(report) + "\n" if told.json else _table(report))
    return 0


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{processor()}, {torch.get_num_threads()} threads"


def _table(report: dict[str, Any]) -> str:
    lines = [f"{report['device']}, {report['dtype']}: {report['matmul_flops'] / 1e9:,.0f} GFLOP/s measured", ""]
    for found in report["methods"]:
        lines += [f"{found.pop('method')}"]
        lines += [f"  {name:<32}{value:>16,.6g}" for name, value in found.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
