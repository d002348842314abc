"""Figures: printed for people, kept as JSON beside the machine they were measured on.

Figures are compared with the last ones of the same processor only: another one, or one with other instruction sets,
multiplies several times as fast or as slowly.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anneal.kit.processor import Processor, processor

RESULTS = Path(__file__).parent / "results"


class NotComparable(Exception):
    """Figures of two processors are not held beside each other; the text names both."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a benchmark is run.

    Attributes:
        results: folder that its figures are written to.
        small: take small inputs, to see that it works; its figures mean nothing and are held to no bound.
    """

    results: Path
    small: bool

    @property
    def words(self) -> list[str]:
        """The options as they are written on a command line."""
        return [*(["--small"] if self.small else []), "--results", str(self.results)]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--small", action="store_true", help="small inputs, to see that it works; needs --results")
    made.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where its figures go")
    return made


def options_of(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> Options:
    """The options that were chosen; small figures in the place of measured ones end the program."""
    results = chosen.results.resolve()
    if chosen.small and results == RESULTS.resolve():
        parser.error("--small needs a --results of its own: its figures must not take the place of measured ones")
    return Options(results, chosen.small)


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


def machine() -> dict[str, Any]:
    """What a reader needs to know of the machine to compare."""
    here = processor()
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": here.name,
        "flags": list(here.flags),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def last(subject: str, folder: Path) -> dict[str, Any] | None:
    """The last results of a subject, as they were kept; None when there are none."""
    path = folder / f"{subject}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def check_comparable(kept: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Check that two machines have the same processor, and as many cores of it.

    Args:
        kept: `machine` of results that were kept.
        here: another one.

    Raises:
        NotComparable: they have not, or the older one does not say what its processor can do.
    """
    keys = ("processor", "flags", "cores")
    if "flags" not in kept:
        raise NotComparable(f"the kept figures do not name the instruction sets of their {kept['processor']}")
    if any(kept[key] != here[key] for key in keys):
        raise NotComparable(f"the kept figures are of {_described(kept)}, this machine has {_described(here)}")


def _described(machine: Mapping[str, Any]) -> str:
    return f"{machine['cores']} cores of {Processor(machine['processor'], tuple(machine['flags']))}"


def keep(subject: str, figures: Iterable[Figure], settings: Mapping[str, object], options: Options) -> list[Figure]:
    """Print a subject's figures and write them to `<subject>.json`, replacing the last ones.

    Args:
        subject: name of the file, and of the module that measured.
        figures: the numbers, in the order to show them.
        settings: sizes and choices that the numbers depend on.
        options: how the benchmark was run.

    Returns:
        Those that are not what they must be; none of a small run.
    """
    kept, here = list(figures), machine()
    before = _before(subject, here, settings, options)
    width = max(len(figure.name) for figure in kept)
    for figure in kept:
        print(_line(figure, width, before.get(figure.name), options).rstrip())
    record = {
        "subject": subject,
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": here,
        "small": options.small,
        "settings": dict(settings),
        "figures": [figure.told() for figure in kept],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + "\n"
    (options.results / f"{subject}.json").write_text(text, encoding="utf-8")
    return [figure for figure in kept if not figure.is_met and not options.small]


def _before(
    subject: str, here: Mapping[str, Any], settings: Mapping[str, object], options: Options
) -> dict[str, float]:
    """The last figures by name, where they are of the same processor and settings; else says why there are none."""
    found = last(subject, options.results)
    if found is None:
        return {}
    try:
        check_comparable(found["machine"], here)
    except NotComparable as error:
        print(f"  not compared with the last figures: {error}")
        return {}
    if found.get("small", False) != options.small or found["settings"] != dict(settings):
        print("  not compared with the last figures: they are of other settings")
        return {}
    return {figure["name"]: figure["value"] for figure in found["figures"]}


def _line(figure: Figure, width: int, before: float | None, options: Options) -> str:
    must = f"at least {figure.least:,.4g}" if figure.least is not None else ""
    must = f"at most {figure.most:,.4g}" if figure.most is not None else must
    verdict = f"{'ok' if figure.is_met else 'MISSED'}: must be {must}" if must and not options.small else ""
    compared = f"was {before:,.4g}" if before is not None else ""
    return f"  {figure.name:<{width}}  {figure.value:>12,.4g} {figure.unit:<9} {compared:<14} {verdict}"
