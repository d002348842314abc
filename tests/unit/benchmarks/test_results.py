"""Figures are kept with their machine, and compared with those of the same processor only."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anneal.kit.processor import processor
from benchmarks.processes import BenchFailed, announced, started
from benchmarks.results import Figure, NotComparable, Options, check_comparable, keep, machine, options_of, parser
from tests.architecture.repository import ROOT

ZEN = {"processor": "AMD EPYC", "flags": ["avx2", "avx512f", "avx512_bf16"], "cores": 2}
CPUINFO = """processor\t: 0
model name\t: Some Processor @ 3.00GHz
flags\t\t: fpu sse2 avx2 f16c fma amx_tile amx_bf16
"""


def test_a_processor_is_named_with_the_instruction_sets_that_kernels_choose_by(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    found = processor(tmp_path / "cpuinfo")
    assert str(found) == "Some Processor @ 3.00GHz (avx2, fma, f16c, amx_tile, amx_bf16)"
    (tmp_path / "cpuinfo").write_text("processor : 0\nFeatures : fp asimd sve bf16\n")
    assert processor(tmp_path / "cpuinfo").flags == ("asimd", "bf16", "sve")
    assert str(processor(tmp_path / "none")) == "unknown (no known vector instructions)"


@pytest.mark.parametrize(
    "change", [{"processor": "Intel Xeon"}, {"flags": ["avx2"]}, {"cores": 4}], ids=["name", "flags", "cores"]
)
def test_figures_of_another_processor_are_not_compared(change: dict[str, Any]) -> None:
    check_comparable(ZEN, ZEN)
    with pytest.raises(NotComparable, match="the kept figures are of 2 cores of AMD EPYC"):
        check_comparable(ZEN, {**ZEN, **change})


def test_figures_without_flags_are_not_compared() -> None:
    with pytest.raises(NotComparable, match="do not name the instruction sets of their AMD EPYC"):
        check_comparable({"processor": "AMD EPYC", "cores": 2}, ZEN)


def test_the_last_figures_are_shown_beside_new_ones_of_the_same_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(tmp_path, small=False)
    keep("s", [Figure("speed", 10.0, "x", least=5.0)], {"n": 1}, options)
    assert "was" not in capsys.readouterr().out
    assert keep("s", [Figure("speed", 4.0, "x", least=5.0)], {"n": 1}, options) == [
        Figure("speed", 4.0, "x", least=5.0)
    ]
    out = capsys.readouterr().out
    assert "was 10" in out
    assert "MISSED: must be at least 5" in out
    keep("s", [Figure("speed", 9.0, "x")], {"n": 2}, options)
    assert "of other settings" in capsys.readouterr().out
    kept = json.loads((tmp_path / "s.json").read_text())
    kept["machine"]["flags"] = ["avx2"] if machine()["flags"] != ["avx2"] else []
    (tmp_path / "s.json").write_text(json.dumps(kept))
    keep("s", [Figure("speed", 8.0, "x")], {"n": 2}, options)
    out = capsys.readouterr().out
    assert "not compared with the last figures: the kept figures are of" in out
    assert "was" not in out


def test_small_figures_meet_no_bound_and_never_replace_measured_ones(tmp_path: Path) -> None:
    assert keep("s", [Figure("speed", 1.0, "x", least=5.0)], {}, Options(tmp_path, small=True)) == []
    arguments = parser("")
    with pytest.raises(SystemExit):
        options_of(arguments, arguments.parse_args(["--small"]))
    assert options_of(arguments, arguments.parse_args(["--small", "--results", str(tmp_path)])).small


def test_a_process_that_does_not_get_ready_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise KeyError('tensor_parallel')"]
    with started(command, tmp_path / "log", stdout=subprocess.PIPE) as process, pytest.raises(BenchFailed) as failed:
        announced(process, tmp_path / "log")
    assert "KeyError: 'tensor_parallel'" in str(failed.value)


def test_the_bare_engine_is_given_every_option_that_the_engine_reads() -> None:
    from benchmarks.serving import engine_options

    source = (ROOT / "services" / "anneal" / "serving" / "adapters" / "vllm_engine.py").read_text()
    read = set(re.findall(r'options\["(\w+)"\]', source))
    assert len(read) > 8
    assert read <= set(engine_options().of_engine(Path("base"), "digest", 8))
    tree = ast.parse((ROOT / "benchmarks" / "serving.py").read_text())
    engines = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "VllmEngine"]
    (options,) = [ast.unparse(call.args[0]) for call in engines]
    assert options.startswith("engine_options().of_engine("), "no dictionary of its own"
