"""The training loop alone: `anneal.training.bench` in float32 and bfloat16, in processes of their own.

Tokens per second of a forward pass, of forward and backward, and of whole optimizer steps, for `lora` and `full`; the
share of what the device's matrix products reach; peak memory; and how far packed samples are from the same ones alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.results import Figure, Options, keep, options_of, parser

PRECISIONS = ("float32", "bfloat16")
STEPS, SMALL_STEPS = 12, 2
SMALL_MODEL = ("--hidden", "32", "--layers", "1", "--context", "32", "--rows", "1", "--vocabulary", "512")


def measure(precision: str, options: Options) -> dict[str, Any]:
    """What the bench reports in one precision.

    Raises:
        CalledProcessError: it failed, which it also does when packed samples see each other.
    """
    command = [sys.executable, "-m", "anneal.training.bench", "--json", "--dtype", precision]
    command += ["--steps", str(steps_of(options)), *(SMALL_MODEL if options.small else ())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def steps_of(options: Options) -> int:
    """Optimizer steps that are measured."""
    return SMALL_STEPS if options.small else STEPS


def main() -> None:
    """Measure and keep."""
    arguments = parser(__doc__)
    options = options_of(arguments, arguments.parse_args())
    reports = {precision: measure(precision, options) for precision in PRECISIONS}
    figures, speeds = [], {}
    for precision, report in reports.items():
        figures.append(Figure(f"{precision}: matrix products", round(report["matmul_flops"] / 1e9, 1), "GFLOP/s"))
        for found in report["methods"]:
            name = f"{precision}, {found['method']}"
            speeds[precision, found["method"]] = found["step_tokens_per_s"]
            figures += [
                Figure(f"{name}: forward", round(found["forward_tokens_per_s"]), "tokens/s"),
                Figure(f"{name}: forward and backward", round(found["forward_backward_tokens_per_s"]), "tokens/s"),
                Figure(f"{name}: optimizer steps", round(found["step_tokens_per_s"]), "tokens/s"),
                Figure(f"{name}: share of the matrix products' speed", round(found["share_of_peak"], 3), "x"),
                Figure(f"{name}: peak memory of the process", round(found["peak_memory_bytes"] / 2**20), "MiB"),
                Figure(f"{name}: packed logits minus unpacked, largest", found["packed_minus_alone"], "logits"),
            ]
    for method in sorted({method for _, method in speeds}):
        ratio = speeds["bfloat16", method] / speeds["float32", method]
        figures.append(Figure(f"{method}: bfloat16 over float32, steps", round(ratio, 2), "x"))
    first = reports["float32"]
    keep(
        "training",
        figures,
        {
            "command": "python -m benchmarks.training",
            "device": first["device"],
            "model": f"untrained Llama of {first['methods'][0]['parameters']:,} parameters, lora included",
            "steps": steps_of(options),
            "rounds": 1,
        },
        options,
    )


if __name__ == "__main__":
    main()
