"""Jobs as operations, in a process that runs none of their services."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from anneal.kit.jobs import codec

PACKAGE = Path(codec.__file__).parents[2]
FIND = """
import sys
import anneal.kit.jobs.codec
from google.protobuf import descriptor_pool
for name in sys.argv[1:]:
    descriptor_pool.Default().FindMessageTypeByName(name)
"""


def test_the_order_of_every_kind_of_job_can_be_shown_by_every_service() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.glob("*/bootstrap.py"))
    orders = [f"anneal.v1.{name}" for name in re.findall(r"request=pb\.(\w+)", text)]
    assert len(orders) >= 7
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", FIND, *orders], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
