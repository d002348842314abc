"""GPU checks are skipped by name where there is no GPU, and need little of this repository."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from tests.architecture.repository import ROOT
from tests.gpu import __main__ as gpu

ENV = {"PYTHONPATH": f"{ROOT / 'services'}:{ROOT}", "PATH": "/usr/bin:/bin"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=ENV, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.skipif(not gpu.what_is_missing("cuda"), reason="there is a GPU here")
def test_without_a_gpu_every_check_is_skipped_by_name_and_nothing_fails() -> None:
    done = run("-m", "tests.gpu")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("gpu-check: ")]
    assert [line.split(": ")[1:3] for line in lines] == [["skipped", check] for check in gpu.CHECKS]
    assert all(line.split(": ")[3] for line in lines), "the reason"


def test_a_check_that_does_not_exist_is_no_success() -> None:
    done = run("-m", "tests.gpu", "nosuch")
    assert done.returncode == 2
    assert "no such check: nosuch" in done.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else found(name))
    assert gpu.what_is_missing("cuda") == "vllm not installed"


@pytest.mark.parametrize("check", gpu.CHECKS.values())
def test_a_check_imports_only_the_rules_of_training(check: str) -> None:
    code = f"import {check}, sys, json; print(json.dumps([m for m in sys.modules if m.startswith('anneal.')]))"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in loaded if not name.startswith("anneal.training.domain")} <= {"anneal.training"}
