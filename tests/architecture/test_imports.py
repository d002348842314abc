"""Who may know whom. The rules stand in pyproject.toml under `tool.importlinter`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.architecture.repository import ROOT


def test_every_import_contract_is_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
