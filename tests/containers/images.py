"""The images, built once for a session, and what each is for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.architecture.repository import ROOT

TAG = "test"
SERVICES = ("registry", "ingestion", "synthesis", "curation", "training", "serving", "evaluation", "gateway")
IMAGES = {
    **{service: f"localhost/anneal/{service}:{TAG}" for service in SERVICES},
    "training": f"localhost/anneal/training:{TAG}-cpu",
    "serving": f"localhost/anneal/serving:{TAG}-cpu",
    "cli": f"localhost/anneal/standalone:{TAG}",
}
"""`package of anneal -> image`; the standalone image runs the command line."""
IMAGE_LIMITS_MB = {"gateway": 300, "registry": 430}
"""Largest sizes of images, as podman adds them up."""
TARGETS = (
    *("registry", "ingestion", "synthesis", "curation", "evaluation", "gateway", "training-cpu", "serving-cpu"),
    *("standalone", "test-s3", "test-postgres"),
)
WITHOUT_LAUNCHER = ("registry", "serving", "gateway")
"""Services that start no jobs; their images have no client of a cluster."""
# Imports modules by name; prints how many, and how long it took.
IMPORT_ALL = """
import importlib, sys, time
start = time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(len(sys.argv) - 1, "modules in", round(time.perf_counter() - start, 1), "s")
"""


def need_podman() -> None:
    """Skip by name where podman does not work: pods of the chart are run by it."""
    if shutil.which("podman") is None:
        pytest.skip("no container can run here: podman is not installed")
    if os.geteuid():
        pytest.skip("no container can run here: only root can make volumes for the group of a pod")
    done = subprocess.run(["podman", "info"], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        pytest.skip(f"no container can run here: podman does not work: {last}")


def build_images() -> None:
    """Build them, or find that nothing changed; it prints what it does."""
    command = [sys.executable, str(ROOT / "deploy" / "images" / "build.py"), *TARGETS, "--tag", TAG]
    done = subprocess.run(command, check=False, cwd=ROOT)
    assert done.returncode == 0, "the images were not built; the lines above say why"
