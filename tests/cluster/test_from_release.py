"""`anneal config from-release` against a release on a real cluster: its port-forwards, its token and its certificates.

It needs, in the environment, `KUBECONFIG`, and `ANNEAL_CLUSTER_RELEASE` as NAMESPACE/RELEASE of a release that is
ready. It changes nothing there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDED = ("KUBECONFIG", "ANNEAL_CLUSTER_RELEASE")
MISSING = [name for name in NEEDED if not os.environ.get(name)]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"no release to make a context from: {', '.join(MISSING)} missing"),
]


def test_a_context_of_the_release_reaches_every_service(tmp_path: Path) -> None:
    path = os.pathsep.join(part for part in sys.path if part)
    environment = {**os.environ, "PYTHONPATH": path, "ANNEAL_CONFIG": str(tmp_path / "config.yaml")}

    def anneal(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "anneal.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment, check=False)

    try:
        made = anneal("config", "from-release", os.environ["ANNEAL_CLUSTER_RELEASE"])
        assert made.returncode == 0, made.stderr
        for group in ("datasets", "models", "adapters", "deployments", "jobs"):
            listed = anneal(group, "list")
            assert (listed.returncode, listed.stderr) == (0, "")
        # Each refuses what does not exist, through a port-forward of its own.
        for words in (["curate", "d", "strict", "none"], ["plan", "none", "--base-model", "none"]):
            refused = anneal(*words)
            assert refused.returncode == 1
            assert "MISSING" in refused.stderr, refused.stderr
        assert anneal("config", "stop").returncode == 0
        assert anneal("datasets", "list").returncode == 0, "the next command starts them again"
    finally:
        anneal("config", "delete", os.environ["ANNEAL_CLUSTER_RELEASE"])
