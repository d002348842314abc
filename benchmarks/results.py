"""Figures: printed for people, kept as JSON beside the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, in a few words.
        value: the number.
        unit: its unit, such as `rows/s`; a ratio has the unit `x`.
        least: what it must be at least; None for no bound.
        most: what it must be at most.
    """

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether it is within its bounds."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def told(self) -> dict[str, str | float]:
        """As it is kept: bounds only where there are some."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def machine() -> dict[str, str | int | float]:
    """What a reader needs to know of the machine to compare."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def keep(subject: str, figures: Iterable[Figure], settings: Mapping[str, object]) -> list[Figure]:
    """Print a subject's figures and write them to `results/<subject>.json`, replacing the last ones.

    Args:
        subject: name of the file, and of the module that measured.
        figures: the numbers, in the order to show them.
        settings: sizes and choices that the numbers depend on.

    Returns:
        Those that are not what they must be.
    """
    kept = list(figures)
    width = max(len(figure.name) for figure in kept)
    for figure in kept:
        must = f"at least {figure.least:,.4g}" if figure.least is not None else ""
        must = f"at most {figure.most:,.4g}" if figure.most is not None else must
        verdict = f"{'ok' if figure.is_met else 'MISSED'}: must be {must}" if must else ""
        print(f"  {figure.name:<{width}}  {figure.value:>12,.4g} {figure.unit:<7} {verdict}".rstrip())
    record = {
        "subject": subject,
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "settings": dict(settings),
        "figures": [figure.told() for figure in kept],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return [figure for figure in kept if not figure.is_met]
