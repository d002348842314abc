"""Build the page again from a report.json: `python -m anneal.cli.report report.json folder`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from anneal.cli.report.model import Report
from anneal.cli.report.page import write


def main() -> None:
    """Read the document, write the page, say where it is."""
    parser = argparse.ArgumentParser(prog="python -m anneal.cli.report", description=__doc__)
    parser.add_argument("document", type=Path, help="report.json")
    parser.add_argument("folder", type=Path, help="where index.html and plots/ go")
    given = parser.parse_args()
    report = Report.model_validate_json(given.document.read_bytes())
    sys.stdout.write(f"{write(report, given.folder)}\n")


if __name__ == "__main__":
    main()
