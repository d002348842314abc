"""Runs the benchmarks, each in a process of its own: `python -m benchmarks [subject ...]`."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.results import options_of, parser

SUBJECTS = ("ingest", "training", "serving", "curation", "parity")


def main() -> int:
    """Run what was asked for, in order; a failure is told at the end and does not stop the rest."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "subjects", nargs="*", metavar="subject", help=f"of {', '.join(SUBJECTS)}; all when none is named"
    )
    chosen = arguments.parse_args()
    options = options_of(arguments, chosen)
    wanted = chosen.subjects or SUBJECTS
    unknown = [subject for subject in wanted if subject not in SUBJECTS]
    if unknown:
        arguments.error(f"no such benchmark: {', '.join(unknown)}")
    failed = []
    for subject in wanted:
        print(f"bench: {subject}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{subject}", *options.words]
        # Small inputs are not worth a second thread, which would spin while anything else runs.
        env = {**os.environ, "OMP_NUM_THREADS": "1"} if options.small else None
        if subprocess.run(command, env=env, check=False).returncode:
            failed.append(subject)
        print(f"bench: {subject} took {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
