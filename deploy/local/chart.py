"""Writes what of charts/anneal follows from something else: values.schema.json, and the table of values in README.md.

    python -m deploy.local.chart write

The table comes from the comments in values.yaml, which are those of helm-docs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.local.chart_schema import schema

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "anneal"

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][\w.-]*):(?P<value>.*)$")
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


def comments(values: str) -> dict[str, str]:
    """The helm-docs comment (`# -- ...`) above each key of values.yaml that has one, by the key's path."""
    found: dict[str, str] = {}
    path: list[str] = []
    said = ""
    for line in values.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            said = stripped.removeprefix("# -- ")
        elif stripped.startswith("#"):
            said = f"{said} {stripped.lstrip('# ')}" if said else ""
        elif match := _LINE.match(line):
            depth = len(match["indent"]) // 2
            path = [*path[:depth], match["key"]]
            if said:
                found[".".join(path)] = said
            said = ""
        else:
            said = ""
    return found


def value_at(values: Mapping[str, Any], path: str) -> Any:
    """The value of a path such as `image.tag`."""
    found: Any = values
    for part in path.split("."):
        found = found[part]
    return found


def table() -> str:
    """The values as a table."""
    source = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(source)
    rows = ["| Value | Default | What it is |", "| --- | --- | --- |"]
    for path, said in comments(source).items():
        default = json.dumps(value_at(values, path))
        shown = f"`{default}`" if len(default) <= 60 else "see `values.yaml`"
        rows.append(f"| `{path}` | {shown} | {said} |")
    return "\n".join(rows) + "\n"


def files() -> dict[Path, str]:
    """What each file should hold."""
    readme = CHART / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        readme: f"{before}{BEGIN}{table()}{END}{after}",
    }


def main() -> None:
    """Write the files, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["write", "check"])
    what = parser.parse_args().what
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if what == "write":
        for path, text in stale.items():
            path.write_text(text, encoding="utf-8")
    elif stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"stale: {names}; run: make chart-files")


if __name__ == "__main__":
    main()
